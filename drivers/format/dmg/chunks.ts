/** The chunks of the disk, from the block tables ("mish") of its partitions, in the order of the disk. */
import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64BE, showU64 } from '../../../src/util/bytes.ts';
import { crcAt } from './koly.ts';
import type { Koly } from './koly.ts';

export const MISH = 0x6d697368;
export const SECTOR = 512;
const TABLE_HEADER = 204;
const CHECKSUM = 64;
const ENTRY = 40;
const ENTRIES_MAX = 1_500_000;
/** A chunk is unpacked as a whole. */
const CHUNK_MAX = 64 * 1024 * 1024;

export const ChunkType = {
  zero: 0,
  raw: 1,
  ignore: 2,
  comment: 0x7ffffffe,
  adc: 0x80000004,
  zlib: 0x80000005,
  bzip2: 0x80000006,
  lzfse: 0x80000007,
  lzma: 0x80000008,
  end: 0xffffffff,
} as const;

export type Packing = 'adc' | 'zlib' | 'bzip2' | 'lzfse' | 'lzma';

const PACKINGS: Readonly<Record<number, Packing>> = {
  [ChunkType.adc]: 'adc',
  [ChunkType.zlib]: 'zlib',
  [ChunkType.bzip2]: 'bzip2',
  [ChunkType.lzfse]: 'lzfse',
  [ChunkType.lzma]: 'lzma',
};

export interface Chunk {
  /** `ignore`: reads as zeroes, and no checksum covers it. */
  readonly kind: 'zero' | 'ignore' | 'raw' | Packing;
  /** Bytes of the disk. */
  readonly start: number;
  readonly length: number;
  /** Bytes of the file. */
  readonly offset: number;
  readonly packed: number;
}

/** A block table: one of a partition, or of what lies between them. */
export interface BlockTable {
  /** In the order of the table. */
  readonly chunks: readonly Chunk[];
  /** CRC-32 of what they unpack to; undefined where the table has none. */
  readonly checksum: number | undefined;
}

export const isPacked = (chunk: Chunk): chunk is Chunk & { kind: Packing } =>
  chunk.kind !== 'zero' && chunk.kind !== 'ignore' && chunk.kind !== 'raw';

/** Refuses tables that break a rule, overlap, or hold what is not supported. */
export function readTables(
  tables: readonly Buffer[],
  koly: Koly,
  fileSize: number,
  subject: string,
): { chunks: Chunk[]; tables: BlockTable[] } {
  const chunks: Chunk[] = [];
  const found: BlockTable[] = [];
  for (const [index, table] of tables.entries()) {
    if (table.length < TABLE_HEADER || table.readUInt32BE(0) !== MISH) {
      refuseImage(
        subject,
        `block table ${index} has ${table.length} bytes or no "mish"`,
        `must have ${TABLE_HEADER} and it`,
      );
    }
    const count = table.readUInt32BE(200);
    if (TABLE_HEADER + count * ENTRY > table.length || chunks.length + count > ENTRIES_MAX) {
      const most = Math.min(ENTRIES_MAX - chunks.length, Math.floor((table.length - TABLE_HEADER) / ENTRY));
      refuseImage(subject, `block table ${index} has ${count} chunks`, `must have at most ${most}`);
    }
    const base = { sector: readU64BE(table, 8), offset: koly.data_fork_offset + readU64BE(table, 24) };
    const first = chunks.length;
    for (let entry = 0; entry < count; entry += 1) {
      const chunk = readChunk(table, TABLE_HEADER + entry * ENTRY, base, subject);
      if (chunk === 'end') break;
      if (chunk !== undefined) chunks.push(chunk);
    }
    found.push({ chunks: chunks.slice(first), checksum: crcAt(table, CHECKSUM) });
  }
  chunks.sort((one, other) => one.start - other.start);
  checkChunks(chunks, koly, fileSize, subject);
  return { chunks, tables: found };
}

function readChunk(
  table: Buffer,
  at: number,
  base: { sector: number; offset: number },
  subject: string,
): Chunk | 'end' | undefined {
  const type = table.readUInt32BE(at);
  if (type === ChunkType.end) return 'end';
  const length = readU64BE(table, at + 16) * SECTOR;
  if (type === ChunkType.comment || length === 0) return undefined;
  const start = (base.sector + readU64BE(table, at + 8)) * SECTOR;
  const offset = base.offset + readU64BE(table, at + 24);
  const packed = readU64BE(table, at + 32);
  if (!Number.isSafeInteger(start + length) || !Number.isSafeInteger(offset + packed)) {
    const is = `a chunk of ${showU64(table, at + 16, false)} sectors at ${showU64(table, at + 8, false)}`;
    refuseImage(subject, is, 'must lie below 2^53 bytes');
  }
  const place = { start, length, offset, packed };
  if (type === ChunkType.zero) return { kind: 'zero', ...place };
  if (type === ChunkType.ignore) return { kind: 'ignore', ...place };
  if (type === ChunkType.raw) return { kind: 'raw', ...place };
  const kind = PACKINGS[type];
  if (kind !== undefined) return { kind, ...place };
  return refuseImage(subject, `a chunk has type 0x${type.toString(16)}`, 'which is not supported', 'ENOTSUP');
}

function checkChunks(chunks: readonly Chunk[], koly: Koly, fileSize: number, subject: string): void {
  let end = 0;
  for (const { kind, start, length, offset, packed } of chunks) {
    if (start < end)
      refuseImage(
        subject,
        `the chunk at ${start} begins before the one before it ends`,
        `must begin at ${end}`,
      );
    end = start + length;
    if (kind === 'zero' || kind === 'ignore') continue;
    if (offset + packed > fileSize) {
      refuseImage(
        subject,
        `the chunk at ${start} lies at ${offset} to ${offset + packed}`,
        `must end before ${fileSize}`,
      );
    }
    if (kind !== 'raw' && (length > CHUNK_MAX || packed > CHUNK_MAX)) {
      refuseImage(
        subject,
        `the chunk at ${start} has ${Math.max(length, packed)} bytes`,
        `must have at most ${CHUNK_MAX}`,
        'EFBIG',
      );
    }
    if (kind === 'raw' && packed < length)
      refuseImage(subject, `the raw chunk at ${start} has ${packed} bytes`, `must have ${length}`);
  }
  const size = koly.sector_count * SECTOR;
  if (size > 0 && end > size)
    refuseImage(subject, `chunks end at ${end}`, `must end at the disk's size ${size}`);
}
