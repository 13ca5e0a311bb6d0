import type { Child } from '../block/child.ts';
import { BlockStatus } from '../block/extent.ts';
import type { Node } from '../block/node.ts';

/** One range of `map`, in QEMU's words. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly compressed: boolean;
  readonly offset: number | undefined;
  readonly filename: string | undefined;
}

const STEP = 2 ** 40;

/** The ranges of a disk from its start to its end; neighbours that say the same are one. */
export async function* mapEntries(child: Child): AsyncGenerator<MapEntry, void> {
  const files = filesBelow(child.node);
  const status = new BlockStatus();
  let pending: MapEntry | undefined;
  for (let start = 0; start < child.size; start += status.length) {
    await child.status(start, STEP, status);
    if (status.length === 0) break;
    const entry = toEntry(start, status, files);
    if (pending !== undefined && continues(pending, entry)) {
      pending = { ...pending, length: pending.length + entry.length };
      continue;
    }
    if (pending !== undefined) yield pending;
    pending = entry;
  }
  if (pending !== undefined) yield pending;
}

function toEntry(start: number, status: BlockStatus, files: ReadonlyMap<string, string>): MapEntry {
  const { length, depth, allocated: present, zero, data, compressed } = status;
  const offset = status.offset < 0 ? undefined : status.offset;
  const filename = offset === undefined ? undefined : files.get(status.node);
  return { start, length, depth, present, zero, data, compressed, offset, filename };
}

function continues(before: MapEntry, entry: MapEntry): boolean {
  const same =
    before.depth === entry.depth &&
    before.present === entry.present &&
    before.zero === entry.zero &&
    before.data === entry.data &&
    before.compressed === entry.compressed &&
    before.filename === entry.filename;
  if (!same || before.offset === undefined || entry.offset === undefined)
    return same && before.offset === entry.offset;
  return before.offset + before.length === entry.offset;
}

/** File name by node name, of all nodes below. */
function filesBelow(top: Node, files = new Map<string, string>()): Map<string, string> {
  if (top.impl.filename !== undefined) files.set(top.name, top.impl.filename);
  for (const child of top.children.values()) filesBelow(child.node, files);
  return files;
}
