/** The frames of a Zstandard file (RFC 8878), from its seek table where it has one, else from frame to frame. */
import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64LE } from '../../../src/util/bytes.ts';
import { turn } from '../../../src/util/turn.ts';
import { readPacked } from './image.ts';
import { SegmentList } from './segments.ts';

export const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const SEEK_TABLE = 0x184d2a5e;
const SEEKABLE_MAGIC = 0x8f92eab1;
const SEEK_FOOTER = 9;
const SEEK_TABLE_MAX = 16 * 1024 * 1024;
const FRAME_HEADER_MAX = 18;
const BLOCKS_A_TURN = 256;
const WINDOW_MAX = 2 ** 27;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;

export const isSkippable = (magic: number): boolean => magic >= SKIPPABLE && magic < SKIPPABLE + 16;

export interface Frame {
  readonly offset: number;
  readonly packed: number;
  /** Bytes that it unpacks to; undefined when its header does not say. */
  readonly plain: number | undefined;
}

/** @param measure unpacks a frame whose size is not told, to learn it */
export async function readFrames(
  file: Child,
  subject: string,
  measure: (frame: Frame) => Promise<number>,
): Promise<SegmentList> {
  const known = await readSeekTable(file, subject);
  if (known !== undefined) return known;
  const segments = new SegmentList();
  for (let at = 0; at < file.size;) {
    const frame = await readFrame(file, at, subject);
    if (segments.count % BLOCKS_A_TURN === 0) await turn();
    if (frame.packed === 0) break;
    at += frame.packed;
    const length = frame.plain ?? (await measure(frame));
    add(segments, { length, offset: frame.offset, packed: frame.packed }, subject);
  }
  return segments;
}

function add(
  segments: SegmentList,
  segment: { length: number; offset: number; packed: number },
  subject: string,
): void {
  if (!segments.add(segment))
    refuseImage(subject, `it has over ${segments.count} frames`, 'must have less', 'EFBIG');
  if (segments.size > Number.MAX_SAFE_INTEGER)
    refuseImage(subject, 'it unpacks to over 2^53 bytes', 'must be less', 'EFBIG');
}

/** The table of the seekable format, which is a frame to be skipped at the end of the file. */
async function readSeekTable(file: Child, subject: string): Promise<SegmentList | undefined> {
  if (file.size < SEEK_FOOTER + 8) return undefined;
  const footer = await readPacked(file, file.size - SEEK_FOOTER, SEEK_FOOTER);
  if (footer.readUInt32LE(5) !== SEEKABLE_MAGIC) return undefined;
  const width = (footer[4] ?? 0) >= 0x80 ? 12 : 8;
  const count = footer.readUInt32LE(0);
  const start = file.size - SEEK_FOOTER - count * width - 8;
  if (count * width > SEEK_TABLE_MAX || start < 0) {
    refuseImage(
      subject,
      `the seek table has ${count} entries`,
      `must have at most ${Math.floor(SEEK_TABLE_MAX / width)}, inside the file`,
    );
  }
  const table = await readPacked(file, start, 8 + count * width);
  if (table.readUInt32LE(0) !== SEEK_TABLE)
    refuseImage(subject, 'there is no seek table where the footer says', 'must be');
  const segments = new SegmentList();
  let offset = 0;
  for (let at = 8; at < table.length; at += width) {
    const packed = table.readUInt32LE(at);
    add(segments, { length: table.readUInt32LE(at + 4), offset, packed }, subject);
    offset += packed;
  }
  if (offset !== start)
    refuseImage(subject, `frames end at ${offset}`, `must end at ${start}, where the seek table begins`);
  return segments;
}

/** The frame at `at`; of no bytes when there is none but data did come before. */
async function readFrame(file: Child, at: number, subject: string): Promise<Frame> {
  const bytes = await readPacked(file, at, FRAME_HEADER_MAX);
  const magic = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
  if (isSkippable(magic) && bytes.length >= 8)
    return { offset: at, packed: 8 + bytes.readUInt32LE(4), plain: 0 };
  if (magic !== FRAME_MAGIC || bytes.length < 6) {
    refuseImage(subject, `0x${magic.toString(16)} stands at ${at}`, 'must be the magic of a Zstandard frame');
  }
  const descriptor = bytes[4] ?? 0;
  const single = (descriptor & 0x20) !== 0;
  if ((descriptor & 8) !== 0)
    refuseImage(subject, `the frame at ${at} has its reserved bit set`, 'must be clear', 'ENOTSUP');
  if ((descriptor & 3) !== 0)
    refuseImage(subject, `the frame at ${at} needs a dictionary`, 'which is not supported', 'ENOTSUP');
  const sizeAt = 5 + (single ? 0 : 1) + (DICTIONARY_BYTES[descriptor & 3] ?? 0);
  const plain = contentSize(bytes, sizeAt, descriptor >> 6, single);
  if (!single) checkWindow(bytes[5] ?? 0, at, subject);
  const sizeBytes = descriptor >> 6 === 0 && single ? 1 : (CONTENT_SIZE_BYTES[descriptor >> 6] ?? 0);
  const end = await blocksEnd(file, at + sizeAt + sizeBytes, subject);
  const packed = end + ((descriptor & 4) === 0 ? 0 : 4) - at;
  if (Number.isNaN(plain) || at + packed > file.size) {
    refuseImage(
      subject,
      `the frame at ${at} unpacks to ${plain} bytes and ends at ${at + packed}`,
      `must end at most at ${file.size}`,
    );
  }
  return { offset: at, packed, plain };
}

function contentSize(bytes: Buffer, at: number, flag: number, single: boolean): number | undefined {
  if (at + 8 > bytes.length) return undefined;
  if (flag === 0) return single ? bytes[at] : undefined;
  if (flag === 1) return bytes.readUInt16LE(at) + 256;
  return flag === 2 ? bytes.readUInt32LE(at) : readU64LE(bytes, at);
}

function checkWindow(byte: number, at: number, subject: string): void {
  const window = 2 ** (10 + (byte >> 3)) * (1 + (byte & 7) / 8);
  if (window <= WINDOW_MAX) return;
  refuseImage(
    subject,
    `the frame at ${at} needs a window of ${window} bytes`,
    `must be at most ${WINDOW_MAX}`,
    'EFBIG',
  );
}

/** Goes from block to block, to behind the last one. */
async function blocksEnd(file: Child, start: number, subject: string): Promise<number> {
  for (let at = start, blocks = 1; ; blocks += 1) {
    if (blocks % BLOCKS_A_TURN === 0) await turn();
    const bytes = await readPacked(file, at, 3);
    if (bytes.length < 3)
      refuseImage(subject, `the file ends in a frame at ${file.size}`, 'must hold it whole');
    const header = bytes.readUIntLE(0, 3);
    const type = (header >> 1) & 3;
    if (type === 3) refuseImage(subject, `a block at ${at} has type 3`, 'must be 0, 1 or 2');
    at += 3 + (type === 1 ? 1 : header >> 3);
    if ((header & 1) === 1) return at;
  }
}
