import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { endOfPlaces } from '../../../src/block/table-survey.ts';
import type { Survey } from '../../../src/block/table-survey.ts';
import { writeU64BE } from '../../../src/util/bytes.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { HEADER_LENGTH, l1EntriesFor } from './header.ts';
import type { Geometry } from './header.ts';

const SIZE_AT = 24;
const L1_OFFSET_AT = 40;
const L1_MAX = 32 * 1024 * 1024;
const PIECE = 1024 * 1024;

export type Grown = { -readonly [Key in keyof Geometry]: Geometry[Key] };

/** Throws for a size that can't be. */
export function planGrowth(geometry: Geometry, size: number, subject: string): Grown {
  const refuse = (code: 'EINVAL' | 'ENOTSUP' | 'EFBIG', why: string): never => {
    throw new BlockError(code, `Cannot resize "${subject}" to ${size} bytes: ${why}`);
  };
  if (size % 512 !== 0) refuse('EINVAL', 'the size must be a multiple of 512');
  if (size < geometry.size) refuse('ENOTSUP', 'qcow images do not shrink');
  const { clusterBits, l2Entries } = geometry;
  const l1Entries = Math.max(geometry.l1Entries, l1EntriesFor(size, clusterBits, Math.log2(l2Entries)));
  if (l1Entries * 8 > L1_MAX)
    refuse('EFBIG', `the L1 table would have ${l1Entries} entries, must be at most ${L1_MAX / 8}`);
  return { ...geometry, size, l1Entries };
}

/** Behind everything that the file has, and its tables name; the offset. */
export async function writeLongerL1(survey: Survey, geometry: Geometry, entries: number): Promise<number> {
  const { file } = survey;
  const at = alignUp(Math.max(file.size, await endOfPlaces(survey)), geometry.clusterSize);
  await file.resize(at + alignUp(entries * 8, geometry.clusterSize));
  for (let done = 0; done < geometry.l1Entries * 8; done += PIECE) {
    const bytes = Buffer.alloc(Math.min(PIECE, geometry.l1Entries * 8 - done));
    await file.read(bytes, geometry.l1Offset + done);
    await file.write(bytes, at + done);
  }
  return at;
}

/** Size and place of the L1 table stand in one sector: both change or none. */
export async function writeGrowth(file: Child, geometry: Geometry): Promise<void> {
  const header = Buffer.alloc(HEADER_LENGTH);
  await file.read(header, 0);
  writeU64BE(header, geometry.size, SIZE_AT);
  writeU64BE(header, geometry.l1Offset, L1_OFFSET_AT);
  await file.write(header, 0);
  await file.flush();
}
