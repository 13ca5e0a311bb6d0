/** What the kernel knows of a block device, and what it does for one. Offsets and lengths are bytes. */
import fs from 'node:fs';
import { errnoOf } from '../block/errors.ts';
import type { LibcFunction } from './background-call.ts';
import { callInBackground } from './background-call.ts';
import type { OpenFile } from './file.ts';
import { addressOf, libc, systemError } from './libc.ts';

const BLKROGET = 0x125e;
const BLKSSZGET = 0x1268;
const BLKDISCARD = 0x1277;
const BLKPBSZGET = 0x127b;
const BLKZEROOUT = 0x127f;
const BLKGETSIZE64 = 0x80081272;

const ioctl = libc.func(
  'int ioctl(int fd, uint64_t request, uintptr_t argument)',
) as unknown as LibcFunction & ((fd: number, request: number, argument: number) => number);

export interface DeviceFacts {
  readonly size: number;
  /** The smallest request of the device. */
  readonly logicalBlock: number;
  /** What it writes without reading first. */
  readonly physicalBlock: number;
  readonly readOnly: boolean;
  /** Bytes; 0 where the device takes no discards. */
  readonly discardGranularity: number;
  readonly maxDiscard: number;
}

export function deviceFacts(file: OpenFile): DeviceFacts {
  const { fd } = file;
  const logicalBlock = ask(file, BLKSSZGET, 'block size');
  return {
    size: ask(file, BLKGETSIZE64, 'size'),
    logicalBlock,
    physicalBlock: ask(file, BLKPBSZGET, 'physical block size'),
    readOnly: ask(file, BLKROGET, 'state') !== 0,
    discardGranularity: queueLimit(fd, 'discard_granularity'),
    maxDiscard: queueLimit(fd, 'discard_max_bytes'),
  };
}

/** Tells the device that the range is unused; what it reads as afterwards is undefined. */
export function discardBlocks(file: OpenFile, offset: number, length: number): Promise<void> {
  return rangeCall('Cannot discard in', BLKDISCARD, file, { offset, length });
}

/** Makes the range read as zeroes; the device may do it without writing. */
export function zeroBlocks(file: OpenFile, offset: number, length: number): Promise<void> {
  return rangeCall('Cannot zero a range of', BLKZEROOUT, file, { offset, length });
}

/** Whether the kernel itself uses the device: a mounted file system, a part of a volume, swap. */
export function isDeviceClaimed(path: string): boolean {
  try {
    fs.closeSync(fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_EXCL));
    return false;
  } catch (error) {
    return errnoOf(error) === 'EBUSY';
  }
}

function ask({ fd, path }: OpenFile, request: number, what: string): number {
  const out = Buffer.alloc(8);
  if (ioctl(fd, request, addressOf(out)) !== 0) throw systemError(`Cannot get the ${what} of "${path}"`);
  return Number(out.readBigUInt64LE());
}

async function rangeCall(
  action: string,
  request: number,
  { fd, path }: OpenFile,
  range: { offset: number; length: number },
): Promise<void> {
  const argument = Buffer.alloc(16);
  argument.writeBigUInt64LE(BigInt(range.offset), 0);
  argument.writeBigUInt64LE(BigInt(range.length), 8);
  await callInBackground(`${action} "${path}"`, ioctl, [fd, request, addressOf(argument)], argument);
}

/** From sysfs, of the device or, for a partition, of the disk it is on. 0 where it is not told. */
function queueLimit(fd: number, name: string): number {
  const device = fs.fstatSync(fd).rdev;
  const major = Math.floor(device / 256) % 4096;
  const minor = (device % 256) + Math.floor(device / 2 ** 20) * 256;
  const base = `/sys/dev/block/${major}:${minor}`;
  for (const file of [`${base}/queue/${name}`, `${base}/../queue/${name}`]) {
    try {
      return Number(fs.readFileSync(file, 'latin1').trim());
    } catch {
      // Not this one.
    }
  }
  return 0;
}
