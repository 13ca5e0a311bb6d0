/**
 * Another size for the disk. Size and, where the table moves, both region tables change in one entry of the log: whole or
 * not at all. A table that its region has no room for is written once more at the end of the file before that.
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { TableChange } from '../../../src/block/table-pages.ts';
import { writeU64LE } from '../../../src/util/bytes.ts';
import { alignDown, alignUp } from '../../../src/util/sizes.ts';
import { shapeOf } from './bat.ts';
import type { Shape } from './bat.ts';
import { MIB, REGION_PLACES } from './header.ts';
import { SECTOR } from './log-entry.ts';
import { DISK_MAX } from './metadata.ts';
import type { Metadata } from './metadata.ts';
import type { VhdxParts } from './parts.ts';
import { BAT_REGION, encodeRegionTable } from './regions.ts';
import type { Regions } from './regions.ts';

const ENTRY = 8;

export interface NewSize {
  readonly metadata: Metadata;
  readonly shape: Shape;
}

/** Throws for a size that can't be. */
export function planSize(parts: VhdxParts, size: number): NewSize {
  const { metadata, subject } = parts;
  const sector = metadata.logicalSectorSize;
  if (size % sector !== 0) refuseSize(subject, size, `must be a multiple of the sector size ${sector}`);
  if (size > DISK_MAX) refuseSize(subject, size, `must be at most ${DISK_MAX}`);
  const fixed = metadata.leaveAllocated && !metadata.hasParent;
  if (size < metadata.diskSize && fixed)
    refuseSize(subject, size, 'a fixed image does not shrink', 'ENOTSUP');
  const next = { ...metadata, diskSize: size };
  return { metadata: next, shape: shapeOf(next) };
}

function refuseSize(
  subject: string,
  size: number,
  why: string,
  code: 'EINVAL' | 'ENOTSUP' = 'EINVAL',
): never {
  throw new BlockError(code, `Cannot resize "${subject}" to ${size} bytes: ${why}`);
}

/** Undefined where the region is long enough; else the region that the table is to have at `at`, written and flushed. */
export async function moveTable(
  parts: VhdxParts,
  entries: { old: number; new: number },
  at: number,
): Promise<Regions | undefined> {
  const { file, regions } = parts;
  if (entries.new * ENTRY <= regions.bat.length) return undefined;
  const length = alignUp(entries.new * ENTRY, MIB);
  await file.writeZeroes(at, length);
  for (let done = 0; done < entries.old * ENTRY; done += MIB) {
    const bytes = Buffer.alloc(Math.min(MIB, entries.old * ENTRY - done));
    await file.read(bytes, regions.bat.offset + done);
    await file.write(bytes, at + done);
  }
  await file.flush();
  const bat = { ...regions.bat, offset: at, length };
  const all = regions.all.map((region) => (region.guid === BAT_REGION ? bat : region));
  return { ...regions, bat, all };
}

/** The sectors of the log entry that says so. */
export async function sizeChanges(
  parts: VhdxParts,
  size: number,
  moved: Regions | undefined,
): Promise<TableChange[]> {
  const { file, regions, metadata } = parts;
  const field = Buffer.alloc(8);
  writeU64LE(field, size, 0);
  const changes = await patchedSectors(file, regions.metadata.offset + metadata.diskSizeAt, field);
  if (moved === undefined) return changes;
  const table = encodeRegionTable(moved.all);
  for (const place of REGION_PLACES) changes.push(...(await patchedSectors(file, place, table)));
  return changes;
}

/** Whole sectors of the log with `bytes` in them, those that differ from what the file has. */
async function patchedSectors(file: Child, offset: number, bytes: Buffer): Promise<TableChange[]> {
  const start = alignDown(offset, SECTOR);
  const before = Buffer.alloc(alignUp(offset + bytes.length, SECTOR) - start);
  await file.read(before, start);
  const after = Buffer.from(before);
  bytes.copy(after, offset - start);
  const changes: TableChange[] = [];
  for (let at = 0; at < after.length; at += SECTOR) {
    const sector = after.subarray(at, at + SECTOR);
    if (!sector.equals(before.subarray(at, at + SECTOR))) changes.push({ offset: start + at, bytes: sector });
  }
  return changes;
}
