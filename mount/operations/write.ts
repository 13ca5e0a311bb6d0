import { WriteFlag } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { BlockFile } from '../block-file.ts';
import type { FuseExport, RootChild } from '../export.ts';
import type { IoBuffer } from '../io-buffer.ts';
import { WriteRequestFlag } from '../protocol/constants.ts';
import { Word } from '../protocol/layout.ts';

const WORD = 2 ** 32;
const O_DSYNC = 0o10000;

/** A write that has to wait: `buffer` holds the payload. */
export interface LaterWrite {
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
  /** Whether the kernel writes back what it has in its cache: nothing of the kernel's may be waited for. */
  readonly fromCache: boolean;
}

/**
 * A WRITE to a disk, its payload at `io.data`. The bytes written; -1 when it would have to wait. Allocates nothing.
 */
export function tryWrite(file: BlockFile, io: IoBuffer): number {
  const target = file.export;
  const { words } = io;
  const at = io.requestWord;
  if (((words[at + Word.writeFlags] ?? 0) & WriteRequestFlag.killSuidgid) !== 0) file.dropPrivileges();
  if (target.isDrained || ((words[at + Word.openFlags] ?? 0) & O_DSYNC) !== 0) return -1;
  const offset = (words[at + Word.offsetHigh] ?? 0) * WORD + (words[at + Word.offsetLow] ?? 0);
  const length = words[at + Word.size] ?? 0;
  const { root } = target;
  if (offset + length > target.size || file.windows?.mustForget(file, offset, length) === true) return -1;
  if (!root.tryWrite(io.bytes, io.data, length, offset)) return -1;
  countWrite(file, offset, length);
  return length;
}

/** What the waiting write needs of the request. Allocates. */
export function decodeWrite(io: IoBuffer): LaterWrite {
  const { words } = io;
  const at = io.requestWord;
  return {
    offset: (words[at + Word.offsetHigh] ?? 0) * WORD + (words[at + Word.offsetLow] ?? 0),
    length: words[at + Word.size] ?? 0,
    flags: ((words[at + Word.openFlags] ?? 0) & O_DSYNC) === 0 ? WriteFlag.none : WriteFlag.fua,
    fromCache: ((words[at + Word.writeFlags] ?? 0) & WriteRequestFlag.cache) !== 0,
  };
}

/**
 * The same, waiting. A disk that can't grow takes what fits, as a block device does, and has no space for the rest.
 */
export async function write(
  file: BlockFile,
  root: RootChild,
  buffer: Pick<IoBuffer, 'bytes' | 'data'>,
  request: LaterWrite,
): Promise<number> {
  const target = file.export;
  const length = writableLength(target, request);
  const before = target.size;
  const payload = buffer.bytes.subarray(buffer.data, buffer.data + length);
  if (length > 0) await root.write(payload, request.offset, request.flags);
  target.reached(root, request.offset + length, before);
  countWrite(file, request.offset, length);
  const forgotten = file.windows?.forget(file, request.offset, length);
  if (!request.fromCache) await forgotten;
  else void forgotten?.catch(() => undefined);
  return length;
}

function writableLength(target: FuseExport, request: LaterWrite): number {
  const { offset, length } = request;
  const { size } = target;
  if (!target.options.writable)
    throw new BlockError('EROFS', `Cannot write ${target.label}: it is read-only`);
  if (!Number.isSafeInteger(offset + length))
    throw new BlockError('EFBIG', `Cannot write ${target.label} at ${offset}`);
  if (offset + length <= size || target.options.growable) return length;
  if (offset < size) return size - offset;
  throw new BlockError('ENOSPC', `Cannot write ${target.label} at ${offset}: it ends at ${size}`);
}

function countWrite(file: BlockFile, offset: number, length: number): void {
  file.wrote(offset, length);
  file.export.counters.writes += 1;
  file.export.counters.bytesWritten += length;
}
