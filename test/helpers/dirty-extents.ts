/** Dirty extents of a bitmap as QEMU and as blockfuse tell them, in one shape. */
import type { DirtyBitmap } from '../../src/block/dirty-bitmap.ts';
import { runEach } from './run.ts';
import type { Command } from './run.ts';
import { tool } from './tools.ts';

export type DirtyExtents = readonly (readonly [start: number, length: number])[];

/** Of a bitmap in memory. */
export function extentsOf(bitmap: DirtyBitmap): DirtyExtents {
  const found: [number, number][] = [];
  for (let run = bitmap.nextDirty(0); run !== undefined; run = bitmap.nextDirty(run.offset + run.length))
    found.push([run.offset, run.length]);
  return found;
}

/** As QEMU has a bitmap of an image that nobody else has open; needs qemu-nbd and nbdinfo. */
export async function qemuExtents(image: string, name: string): Promise<DirtyExtents> {
  const [text = ''] = await runEach([qemuExtentsCommand(image, name)]);
  return parseQemuExtents(text);
}

/** Prints what parseQemuExtents reads. */
export function qemuExtentsCommand(image: string, name: string): Command {
  const server = [tool('qemu-nbd'), '-r', '-f', 'qcow2', '-B', name, image];
  return ['nbdinfo', '--json', `--map=qemu:dirty-bitmap:${name}`, '--', '[', ...server, ']'];
}

export function parseQemuExtents(text: string): DirtyExtents {
  const ranges = JSON.parse(text) as readonly { offset: number; length: number; type: number }[];
  return joined(ranges.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]));
}

/** Neighbours as one. */
function joined(extents: DirtyExtents): DirtyExtents {
  const found: [number, number][] = [];
  for (const [start, length] of extents) {
    const last = found.at(-1);
    if (last !== undefined && last[0] + last[1] === start) last[1] += length;
    else found.push([start, length]);
  }
  return found;
}
