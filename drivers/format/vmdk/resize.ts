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
import { MAX_DESCRIPTOR, textOf } from './descriptor.ts';
import type { DigitSpan } from './descriptor.ts';
import { replaceDigits } from './descriptor-edit.ts';
import type { SectorEdit } from './descriptor-edit.ts';
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

/**
 * The descriptor for a last extent of `sectors`, and a disk of `total`; written by `write`, sector by sector, each of which
 * leaves a sound one. Throws where that can't be.
 */
export async function planDescriptor(
  place: DescriptorPlace,
  last: { index: number; sectors: number; total: number },
  subject: string,
): Promise<{ write(): Promise<void> }> {
  const { file, at, room, contentId } = place;
  const before = Buffer.alloc(room ?? Math.min(file.size, MAX_DESCRIPTOR));
  await file.read(before, at);
  const span = findSectors(textOf(before), last.index);
  const digits = String(last.sectors);
  const text = room === undefined ? padded(before, Math.max(0, digits.length - (span?.length ?? 0))) : before;
  const edit = span && replaceDigits(text, span, digits);
  if (edit === undefined) {
    const why = `extent ${last.index} of the descriptor has no room for ${digits} within its sector, which a power cut could tear; convert the disk`;
    refuseResize(subject, last.total * SECTOR, why);
  }
  edit.bytes.copy(text, edit.at);
  const cylinders = newCylinders(text, last.total);
  return {
    async write() {
      if (text.length > before.length) {
        await file.write(text.subarray(before.length), at + before.length);
        await file.flush();
      }
      for (const { at: sector, bytes } of cylinders === undefined ? [edit] : [edit, cylinders]) {
        bytes.copy(text, sector);
        await file.write(bytes, at + sector);
        await file.flush();
      }
      contentId.locate(text);
    },
  };
}

/** A text that is a file grows by empty lines, as long as they are in its last sector: room for longer numbers. */
function padded(text: Buffer, count: number): Buffer {
  const room = text.length % SECTOR === 0 ? 0 : SECTOR - (text.length % SECTOR);
  const hasEnd = text.at(-1) === 0x0a;
  return hasEnd ? Buffer.concat([text, Buffer.alloc(Math.min(room, count), '\n')]) : Buffer.from(text);
}

/** Where the number of sectors of an extent stands. */
function findSectors(text: string, index: number): DigitSpan | undefined {
  let seen = -1;
  let at = 0;
  for (const line of text.split('\n')) {
    if (isExtentLine(line.trim())) seen += 1;
    const match = seen === index ? /^(\s*\w+[ \t]+)(\d+)/.exec(line) : null;
    if (match?.[1] !== undefined && match[2] !== undefined)
      return { at: at + match[1].length, length: match[2].length };
    at += line.length + 1;
  }
  return undefined;
}

/** The geometry that old guests ask for, where the descriptor has one and there is room for another. */
function newCylinders(bytes: Buffer, total: number): SectorEdit | undefined {
  const text = textOf(bytes);
  const match = (key: string): RegExpExecArray | null =>
    new RegExp(`^([ \\t]*ddb\\.geometry\\.${key}[ \\t]*=[ \\t]*"?)(\\d{1,9})`, 'im').exec(text);
  const track = Number(match('heads')?.[2] ?? 0) * Number(match('sectors')?.[2] ?? 0);
  const found = match('cylinders');
  if (track === 0 || found?.[1] === undefined || found[2] === undefined) return undefined;
  const isIde = /^[ \t]*ddb\.adapterType[ \t]*=[ \t]*"?ide/im.test(text);
  const cylinders = Math.min(Math.floor(total / track), isIde ? IDE_CYLINDERS : Number.MAX_SAFE_INTEGER);
  const span = { at: found.index + found[1].length, length: found[2].length };
  return replaceDigits(bytes, span, String(cylinders));
}
