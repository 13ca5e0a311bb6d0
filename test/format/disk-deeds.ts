/** What a test does to a disk with snapshots, step by step. */
import type { Child } from '../../src/block/child.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import { applySnapshot, changeSnapshots, snapshotsOf } from '../../src/block/internal-snapshots.ts';
import type { Node } from '../../src/block/node.ts';
import type { Action } from '../../src/control/actions/action.ts';
import { runActions } from '../../src/control/actions/action.ts';
import { addBitmap, mergeBitmaps, removeBitmap } from '../../src/control/actions/bitmap.ts';
import type { Random } from '../helpers/random.ts';
import type { Change } from './possible-disks.ts';

const KIB = 1024;

export type Deed =
  | {
      readonly do: 'write' | 'compress' | 'zero' | 'unmap' | 'discard';
      readonly at: number;
      readonly length: number;
    }
  | { readonly do: 'resize'; readonly to: number }
  | { readonly do: 'create' | 'apply' | 'delete'; readonly name: string }
  | { readonly do: 'add bitmap' | 'remove bitmap' | 'merge bitmap'; readonly name: string }
  | { readonly do: 'flush' };

/** What a deed changes, with the bytes that it writes. */
export function changeOf(deed: Deed, random: Random): Change | undefined {
  switch (deed.do) {
    case 'flush':
    case 'add bitmap':
    case 'remove bitmap':
    case 'merge bitmap':
      return undefined;
    case 'resize':
      return { what: 'size', size: deed.to };
    case 'create':
    case 'apply':
    case 'delete':
      return { what: deed.do, name: deed.name };
    case 'write':
    case 'compress':
      return { what: 'bytes', offset: deed.at, bytes: random.softBytes(deed.length) };
    case 'zero':
    case 'unmap':
    case 'discard':
      return {
        what: 'bytes',
        offset: deed.at,
        bytes: Buffer.alloc(deed.length),
        vague: deed.do === 'discard',
      };
  }
}

export async function execute(
  { graph, node, disk }: { graph: Graph; node: Node; disk: Child },
  deed: Deed,
  change: Change | undefined,
): Promise<void> {
  const bytes = change?.what === 'bytes' ? change.bytes : Buffer.alloc(0);
  if ('at' in deed && deed.at + deed.length > disk.size)
    throw new BlockError('ENOSPC', 'the disk did not grow');
  switch (deed.do) {
    case 'write':
      return disk.write(bytes, deed.at);
    case 'compress':
      return disk.writeCompressed(bytes, deed.at);
    case 'zero':
      return disk.writeZeroes(deed.at, deed.length);
    case 'unmap':
      return disk.writeZeroes(deed.at, deed.length, ZeroFlag.mayUnmap);
    case 'discard':
      return disk.discard(deed.at, deed.length);
    case 'flush':
      return disk.flush();
    case 'resize':
      return disk.resize(deed.to, true);
    case 'apply':
      return applySnapshot(graph, node, deed.name);
    case 'delete':
      return changeSnapshots(graph, node, (all) => all.delete(deed.name));
    case 'create':
      await changeSnapshots(graph, node, (all) => all.create(deed.name));
      return;
    case 'add bitmap':
    case 'remove bitmap':
    case 'merge bitmap':
      await runActions(graph, [bitmapAction(graph, node, deed)]);
  }
}

/** What is merged is the bitmap "first". */
function bitmapAction(graph: Graph, { name: node }: Node, deed: { do: string; name: string }): Action {
  const { name } = deed;
  if (deed.do === 'add bitmap')
    return addBitmap(graph, { node, name, granularity: 4 * KIB, persistent: true, disabled: false });
  if (deed.do === 'remove bitmap') return removeBitmap(graph, { node, name });
  return mergeBitmaps(graph, { node, target: name, bitmaps: ['first'] });
}

/** The disk under '', snapshots under their names. */
export async function contents(graph: Graph, node: Node): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const names = snapshotsOf(node)
    .list()
    .map(({ name }) => name);
  for (const name of ['', ...names]) {
    const shown =
      name === '' ? node : await graph.open({ driver: 'snapshot-access', file: node.name, snapshot: name });
    const disk = graph.attachRoot(shown, { name: `judge of ${name}`, used: 1 });
    const bytes = Buffer.alloc(disk.size);
    await disk.read(bytes, 0);
    found.set(name, bytes);
  }
  return found;
}

export const write = (at: number, length: number): Deed => ({
  do: 'write',
  at: at * KIB,
  length: length * KIB,
});
export const deed = (kind: 'compress' | 'zero' | 'unmap' | 'discard', at: number, length: number): Deed => ({
  do: kind,
  at: at * KIB,
  length: length * KIB,
});
export const flush: Deed = { do: 'flush' };
export const snapshot = (kind: 'create' | 'apply' | 'delete', name: string): Deed => ({ do: kind, name });
export const bitmap = (kind: 'add' | 'remove' | 'merge', name: string): Deed => ({
  do: `${kind} bitmap`,
  name,
});
export const resize = (to: number): Deed => ({ do: 'resize', to: to * KIB });

/** What is wrong with bitmaps that are consistent: one does not have all that differs from what was there at the start. */
export function missedByBitmaps(node: Node, start: Buffer, now: Buffer): string | undefined {
  for (const bitmap of node.watch?.bitmaps.values() ?? []) {
    if (bitmap.inconsistent) continue;
    for (let at = 0; at < Math.min(start.length, now.length); at += bitmap.granularity) {
      const end = at + bitmap.granularity;
      if (!bitmap.isDirty(at) && !start.subarray(at, end).equals(now.subarray(at, end)))
        return `bitmap ${bitmap.name} misses a change at ${at}`;
    }
  }
  return undefined;
}
