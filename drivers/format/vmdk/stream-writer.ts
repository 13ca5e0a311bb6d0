/**
 * Writes a streamOptimized image front to back, each byte once:
 *
 *     header | descriptor | grain grain ... | marker, table | grain ... | marker, table | marker, directory | footer | end
 *
 * Grains come in ascending order; those left out read as zeroes.
 */
import { deflate } from 'node:zlib';
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { isZero } from '../../../src/block/zero.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { directoryEntriesFor, encodeHeader, GRAIN, streamHeader, TABLE_ENTRIES } from './create-sparse.ts';
import { encodeEntries } from './entries.ts';
import { MAX_ENTRY } from './geometry.ts';
import { SECTOR } from './layout.ts';

export const GRAIN_BYTES = GRAIN * SECTOR;

/** Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents": kinds of marker without data. */
const Marker = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const;
const MARKER_HEAD = 12;
/** Grains that are deflated at once. */
const BATCH = 8;

export class StreamWriter {
  private readonly file: Child;
  private readonly sectors: number;
  private readonly directory: Uint32Array;
  private table: Uint32Array | undefined = undefined;
  private tableIndex = -1;
  private lastGrain = -1;
  /** Bytes. */
  private at = GRAIN * SECTOR;

  /** @param sectors of the disk */
  constructor(file: Child, sectors: number) {
    this.file = file;
    this.sectors = sectors;
    this.directory = new Uint32Array(directoryEntriesFor(sectors));
  }

  async begin(descriptor: Buffer): Promise<void> {
    const head = Buffer.alloc(GRAIN * SECTOR);
    encodeHeader(streamHeader(this.sectors)).copy(head);
    descriptor.copy(head, SECTOR);
    await this.file.write(head, 0);
  }

  /** Whole grains from `grain` on; the last of the disk may be short. Behind everything appended before. */
  async append(grain: number, bytes: Buffer): Promise<void> {
    const count = Math.ceil(bytes.length / GRAIN_BYTES);
    if (grain <= this.lastGrain || (grain + count - 1) * GRAIN >= this.sectors) {
      const text = `Cannot append grain ${grain} to a stream: grain ${this.lastGrain} of it is written, must come behind`;
      throw new BlockError('EINVAL', text);
    }
    for (let first = 0; first < count; first += BATCH) {
      const batch = Array.from(
        { length: Math.min(BATCH, count - first) },
        (_, step): Promise<Buffer | undefined> => {
          const piece = bytes.subarray((first + step) * GRAIN_BYTES, (first + step + 1) * GRAIN_BYTES);
          return isZero(piece, 0, piece.length) ? Promise.resolve(undefined) : deflated(piece);
        },
      );
      for (const [step, data] of (await Promise.all(batch)).entries()) {
        if (data !== undefined) await this.write(grain + first + step, data);
      }
    }
    this.lastGrain = grain + count - 1;
  }

  async finish(): Promise<void> {
    await this.endTable();
    const entries = encodeEntries(this.directory, alignUp(this.directory.length * 4, SECTOR));
    const gdOffset = await this.writeMarked(Marker.grainDirectory, entries);
    await this.writeMarked(Marker.footer, encodeHeader(streamHeader(this.sectors, gdOffset)));
    await this.put(Buffer.alloc(SECTOR));
    await this.file.flush();
  }

  private async write(grain: number, data: Buffer): Promise<void> {
    const index = Math.floor(grain / TABLE_ENTRIES);
    if (index !== this.tableIndex) {
      await this.endTable();
      this.table = new Uint32Array(TABLE_ENTRIES);
      this.tableIndex = index;
    }
    const bytes = Buffer.alloc(alignUp(MARKER_HEAD + data.length, SECTOR));
    bytes.writeBigUInt64LE(BigInt(grain) * BigInt(GRAIN));
    bytes.writeUInt32LE(data.length, 8);
    data.copy(bytes, MARKER_HEAD);
    if (this.table !== undefined) this.table[grain % TABLE_ENTRIES] = await this.put(bytes);
  }

  private async endTable(): Promise<void> {
    if (this.table === undefined) return;
    const entries = encodeEntries(this.table, TABLE_ENTRIES * 4);
    this.directory[this.tableIndex] = await this.writeMarked(Marker.grainTable, entries);
    this.table = undefined;
  }

  /** Returns the sector of `bytes`, which must be whole sectors. */
  private async writeMarked(kind: number, bytes: Buffer): Promise<number> {
    const marker = Buffer.alloc(SECTOR);
    marker.writeBigUInt64LE(BigInt(kind === Marker.footer ? 1 : bytes.length / SECTOR));
    marker.writeUInt32LE(kind, MARKER_HEAD);
    await this.put(marker);
    return this.put(bytes);
  }

  private async put(bytes: Buffer): Promise<number> {
    const sector = this.at / SECTOR;
    if (sector > MAX_ENTRY)
      throw new BlockError('EFBIG', 'Cannot write the stream: it would be larger than 2 TiB');
    await this.file.write(bytes, this.at);
    this.at += bytes.length;
    return sector;
  }
}

function deflated(bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    deflate(bytes, (error, data) => {
      if (error === null) resolve(data);
      else reject(error);
    });
  });
}
