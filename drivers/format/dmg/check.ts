import { crc32 } from 'node:zlib';
import type { CheckOptions, CheckResult, OpenDriver } from '../../../src/block/driver.ts';
import type { BlockTable, Chunk } from './chunks.ts';
import { isPacked } from './chunks.ts';
import { DmgImage } from './image.ts';
import type { Koly } from './koly.ts';

const STEP = 1024 * 1024;
const ZEROES = Buffer.alloc(STEP);
/** A chunk of more zeroes takes too long to sum up. */
const ZEROES_MAX = 2 ** 40;

/** The checksum over those of the tables, which needs no data to be read; undefined when it is right or there is none. */
export function masterMismatch(koly: Koly, tables: readonly BlockTable[]): string | undefined {
  if (koly.masterChecksum === undefined) return undefined;
  const sums = Buffer.alloc(tables.length * 4);
  for (const [index, { checksum }] of tables.entries()) {
    if (checksum === undefined) return undefined;
    sums.writeUInt32BE(checksum, index * 4);
  }
  return mismatch('the master checksum', koly.masterChecksum, crc32(sums));
}

/** Everything is read and unpacked, and compared with the checksums of the tables, of the stored bytes, and of these together. */
export async function checkDmg(open: OpenDriver, options: CheckOptions): Promise<CheckResult> {
  if (!(open instanceof DmgImage)) throw new TypeError('not an open DMG image');
  const { koly, tables, chunks } = open.parts;
  const messages: string[] = [];
  const note = (wrong: string | undefined): void => {
    if (wrong !== undefined) messages.push(wrong);
  };
  note(masterMismatch(koly, tables));
  if (koly.dataChecksum !== undefined) {
    const stored = await crcOfFile(open, koly.data_fork_offset, koly.data_fork_length, 0);
    note(mismatch('the checksum of the stored data', koly.dataChecksum, stored));
  }
  let checkErrors = 0;
  for (const [index, table] of tables.entries()) {
    options.progress?.(index, tables.length);
    if (table.chunks.some(({ kind, length }) => kind === 'zero' && length > ZEROES_MAX)) checkErrors += 1;
    else note(await checkTable(open, table, index));
  }
  return {
    corruptions: messages.length,
    leaks: 0,
    checkErrors,
    corruptionsFixed: 0,
    leaksFixed: 0,
    totalClusters: chunks.length,
    allocatedClusters: chunks.filter((chunk) => chunk.kind === 'raw' || isPacked(chunk)).length,
    compressedClusters: chunks.filter(isPacked).length,
    messages,
  };
}

async function checkTable(image: DmgImage, table: BlockTable, index: number): Promise<string | undefined> {
  let sum = 0;
  try {
    for (const chunk of table.chunks) sum = await crcOfChunk(image, chunk, sum);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  if (table.checksum === undefined) return undefined;
  return mismatch(`the checksum of block table ${index}`, table.checksum, sum);
}

async function crcOfChunk(image: DmgImage, chunk: Chunk, sum: number): Promise<number> {
  if (chunk.kind === 'ignore') return sum;
  if (chunk.kind === 'raw') return crcOfFile(image, chunk.offset, chunk.length, sum);
  if (isPacked(chunk)) return crc32(await image.unpack(chunk), sum);
  let value = sum;
  for (let left = chunk.length; left > 0; left -= STEP)
    value = crc32(ZEROES.subarray(0, Math.min(STEP, left)), value);
  return value;
}

async function crcOfFile(
  { parts: { file } }: DmgImage,
  offset: number,
  length: number,
  sum: number,
): Promise<number> {
  let value = sum;
  const bytes = Buffer.alloc(Math.min(STEP, length));
  for (let at = 0; at < length; at += STEP) {
    const piece = bytes.subarray(0, Math.min(STEP, length - at));
    await file.read(piece, offset + at);
    value = crc32(piece, value);
  }
  return value;
}

function mismatch(what: string, stored: number, computed: number): string | undefined {
  if (stored === computed) return undefined;
  return `${what} is 0x${stored.toString(16)}, must be 0x${computed.toString(16)}`;
}
