/**
 * Another size for the disk: that of its last extent changes, and the descriptor's line of it.
 *
 *   grow    content ID -> the extent -> the descriptor
 *   shrink  content ID -> the descriptor -> the file of the extent (flat ones only)
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { ContentId } from './content-id.ts';
import type { DiskExtent } from './disk-extent.ts';
import { isExtentLine } from './extent-line.ts';
import { MAX_DESCRIPTOR } from './descriptor.ts';
import { SECTOR } from './layout.ts';

export interface DescriptorPlace {
  readonly file: Child;
  /** Bytes into the file. */
  readonly at: number;
  /** Bytes that it may have; undefined where the file is nothing else. */
  readonly room: number | undefined;
  readonly contentId: ContentId;
}

const IDE_CYLINDERS = 16383;
/** Sectors of an extent file of twoGbMaxExtent disks: the file stays below 2 GiB. */
const SPLIT_MAX = 4192256;

/** Throws for what can't be had. */
export function refuseResize(
  subject: string,
  size: number,
  why: string,
  code: 'EINVAL' | 'ENOTSUP' = 'ENOTSUP',
): never {
  throw new BlockError(code, `Cannot resize "${subject}" to ${size} bytes: ${why}`);
}

/** Why the last extent can't have `length` bytes; undefined where it can. */
export function obstacleToLength(extent: DiskExtent, length: number, createType: string): string | undefined {
  const { format, filename } = extent.description;
  if (extent.resize === undefined) return `the last extent is ${format}, which does not change its size`;
  if (length <= 0) return `the last extent "${filename}" would have nothing left`;
  if (length < extent.length && format === 'SPARSE')
    return 'a sparse extent does not shrink; convert the disk';
  if (!/^twogbmaxextent/i.test(createType) || length / SECTOR <= SPLIT_MAX || length < extent.length)
    return undefined;
  const room = SPLIT_MAX * SECTOR - extent.length;
  return `the last extent "${filename}" has room for ${Math.max(0, room)} bytes more, then a further file would be needed; convert the disk`;
}

/** The descriptor for a last extent of `sectors`, and a disk of `total`; written by `write`. Throws when it has no room. */
export async function planDescriptor(
  place: DescriptorPlace,
  last: { index: number; sectors: number; total: number },
  subject: string,
): Promise<{ write(): Promise<void> }> {
  const { file, at, room, contentId } = place;
  const before = Buffer.alloc(room ?? Math.min(file.size, MAX_DESCRIPTOR));
  await file.read(before, at);
  const nul = before.indexOf(0);
  const text = before.toString('latin1', 0, nul < 0 ? before.length : nul);
  const after = Buffer.from(withCylinders(withSectors(text, last.index, last.sectors), last.total), 'latin1');
  if (after.length > (room ?? MAX_DESCRIPTOR))
    refuseResize(
      subject,
      last.total * SECTOR,
      `the descriptor would have ${after.length} bytes, must have at most ${room}`,
    );
  const bytes = room === undefined ? after : Buffer.concat([after, Buffer.alloc(room - after.length)]);
  return {
    async write() {
      await file.write(bytes.subarray(0, lastChange(before, bytes)), at);
      if (room === undefined && file.size > bytes.length) await file.resize(bytes.length, true);
      await file.flush();
      contentId.locate(bytes);
    },
  };
}

function withSectors(text: string, index: number, sectors: number): string {
  let seen = -1;
  return text
    .split('\n')
    .map((line) => {
      if (!isExtentLine(line.trim())) return line;
      seen += 1;
      return seen === index ? line.replace(/^(\s*\w+[ \t]+)\d+/, `$1${sectors}`) : line;
    })
    .join('\n');
}

/** The geometry that old guests ask for, where the descriptor has one. */
function withCylinders(text: string, total: number): string {
  const numberOf = (key: string): number =>
    Number(
      new RegExp(`^[ \\t]*ddb\\.geometry\\.${key}[ \\t]*=[ \\t]*"?(\\d{1,9})`, 'im').exec(text)?.[1] ?? 0,
    );
  const track = numberOf('heads') * numberOf('sectors');
  if (track === 0) return text;
  const isIde = /^[ \t]*ddb\.adapterType[ \t]*=[ \t]*"?ide/im.test(text);
  const cylinders = Math.min(Math.floor(total / track), isIde ? IDE_CYLINDERS : Number.MAX_SAFE_INTEGER);
  return text.replace(/^([ \t]*ddb\.geometry\.cylinders[ \t]*=[ \t]*"?)\d+/im, `$1${cylinders}`);
}

/** Where the differing part ends, in whole sectors. */
function lastChange(before: Buffer, after: Buffer): number {
  if (before.length !== after.length || after.length % SECTOR !== 0) return after.length;
  let end = after.length;
  while (end > 0 && before.subarray(end - SECTOR, end).equals(after.subarray(end - SECTOR, end)))
    end -= SECTOR;
  return Math.max(0, end);
}
