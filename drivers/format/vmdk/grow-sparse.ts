/**
 * A hosted sparse extent gets tables for more grains, behind everything it has:
 *
 *     [new redundant directory] [new tables] [new directory] [new tables]      a directory only where the old one is full
 *
 * Tables and directories are flushed before the header, one sector, says that they are used.
 */
import type { Child } from '../../../src/block/child.ts';
import { endOfPlaces } from '../../../src/block/table-survey.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { encodeEntries } from './entries.ts';
import type { SparseGeometry } from './geometry.ts';
import { MAX_ENTRY } from './geometry.ts';
import type { GrainTables } from './grain-tables.ts';
import { encode, SECTOR } from './layout.ts';
import { readHead } from './read-header.ts';
import { SPARSE_HEADER } from './sparse-header.ts';
import { noRoom } from './write-gate.ts';
import { surveyGrains } from './survey.ts';

const PER_SECTOR = SECTOR / 4;

interface Growing {
  readonly file: Child;
  readonly filename: string;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
  /** Told around the change that decides which directory counts: while it is so, nothing may be written. */
  readonly uncertain: (isSo: boolean) => void;
}

/** @param capacity bytes of the disk that the extent is to hold, more than now; nothing of it is dirty */
export async function growSparse(extent: Growing, capacity: number): Promise<void> {
  const { file, filename, geometry, tables } = extent;
  const { directoryEntries: old, grainSize, tableEntries, tableSize } = geometry;
  const entries = Math.ceil(capacity / (grainSize * tableEntries));
  const directoryBytes = alignUp(entries * 4, SECTOR);
  const moves = directoryBytes > alignUp(old * 4, SECTOR);
  const step = (moves ? directoryBytes : 0) + (entries - old) * tableSize;
  const copies = tables.redundant === undefined ? [tables.directory] : [tables.redundant, tables.directory];
  const start = alignUp(Math.max(file.size, await endOfPlaces(surveyGrains(extent))), grainSize);
  const end = start + copies.length * step;
  if (end / SECTOR > MAX_ENTRY) throw noRoom(filename);
  if (step > 0) await file.resize(end);
  const places: number[] = [];
  for (const [index, directory] of copies.entries()) {
    const base = start + index * step;
    const kept = directory === tables.redundant ? geometry.redundantOffset : geometry.directoryOffset;
    const at = moves ? base : (kept ?? base);
    const first = moves ? 0 : Math.floor(old / PER_SECTOR) * PER_SECTOR;
    const longer = new Uint32Array(entries);
    longer.set(directory);
    const table = (base + (moves ? directoryBytes : 0)) / SECTOR;
    for (let entry = old; entry < entries; entry += 1)
      longer[entry] = table + ((entry - old) * tableSize) / SECTOR;
    const changed = longer.subarray(first);
    if (changed.length > 0)
      await file.write(encodeEntries(changed, alignUp(changed.length * 4, SECTOR)), at + first * 4);
    places.push(at / SECTOR);
  }
  await file.flush();
  const head = (await readHead(file)).subarray(0, SECTOR);
  const gdOffset = places.at(-1) ?? 0;
  const rgdOffset = places.length > 1 ? { rgdOffset: places[0] ?? 0 } : {};
  encode(SPARSE_HEADER, head, { capacity: capacity / SECTOR, gdOffset, ...rgdOffset });
  extent.uncertain(true);
  await file.write(head, 0);
  await file.flush();
  extent.uncertain(false);
}
