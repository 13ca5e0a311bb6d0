/**
 * Writes a streamOptimized image front to back, each byte once:
 *
 *     header | descriptor | grain grain ... | marker, table | grain ... | marker, table | marker, directory | footer | end
 *
 * Grains come in ascending order; those left out read as zeroes. Grains of all appends under way are deflated at once, in
 * the thread pool; what an append has is written as one piece, when the one before is.
 */
import { deflate } from 'node:zlib';
import type { Child } from '../../../src/block/child.ts';
import type { SequentialWriter } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { isZero } from '../../../src/block/zero.ts';
import { Serial } from '../../../src/util/serial.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { directoryEntriesFor, encodeHeader, GRAIN, streamHeader, TABLE_ENTRIES } from './create-sparse.ts';
import { encodeEntries } from './entries.ts';
import { MAX_ENTRY } from './geometry.ts';
import { SECTOR } from './layout.ts';

export const GRAIN_BYTES = GRAIN * SECTOR;

/** Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents": kinds of marker without data. */
const Marker = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const;
const MARKER_HEAD = 12;

export class StreamWriter implements SequentialWriter {
  readonly unit = GRAIN_BYTES;
  private readonly file: Child;
  private readonly sectors: number;
  private readonly directory: Uint32Array;
  private table: Uint32Array | undefined = undefined;
  private tableIndex = -1;
  private lastGrain = -1;
  /** Bytes. */
  private at = GRAIN * SECTOR;
  private readonly serial = new Serial();
  private failure: unknown = undefined;

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

  write(bytes: Buffer, offset: number): Promise<void> {
    return this.append(offset / GRAIN_BYTES, bytes);
  }

  /** Whole grains from `grain` on; the last of the disk may be short. Behind everything appended before. */
  async append(grain: number, bytes: Buffer): Promise<void> {
    const count = Math.ceil(bytes.length / GRAIN_BYTES);
    if (grain <= this.lastGrain || (grain + count - 1) * GRAIN >= this.sectors) {
      const text = `Cannot append grain ${grain} to a stream: grain ${this.lastGrain} of it is written, must come behind`;
      throw new BlockError('EINVAL', text);
    }
    this.lastGrain = grain + count - 1;
    const packed = Array.from({ length: count }, (_, step): Promise<Buffer | undefined> => {
      const piece = bytes.subarray(step * GRAIN_BYTES, (step + 1) * GRAIN_BYTES);
      return isZero(piece, 0, piece.length) ? Promise.resolve(undefined) : deflated(wholeGrain(piece));
    });
    const all = Promise.all(packed);
    // Waited for when it is this one's turn.
    all.catch(() => {});
    await this.serial.run(async () => this.writeGrains(grain, await all));
  }

  async finish(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    await this.endTable();
    const entries = encodeEntries(this.directory, alignUp(this.directory.length * 4, SECTOR));
    const gdOffset = await this.writeMarked(Marker.grainDirectory, entries);
    await this.writeMarked(Marker.footer, encodeHeader(streamHeader(this.sectors, gdOffset)));
    await this.put(Buffer.alloc(SECTOR));
    await this.file.flush();
  }

  /** A stream with a gap is no image: after a failure nothing more is written. */
  private async writeGrains(first: number, grains: readonly (Buffer | undefined)[]): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    try {
      let pieces: Buffer[] = [];
      let from = this.at;
      for (const [step, data] of grains.entries()) {
        if (data === undefined) continue;
        const grain = first + step;
        if (Math.floor(grain / TABLE_ENTRIES) !== this.tableIndex) {
          await this.writeAll(pieces, from);
          pieces = [];
          await this.beginTable(grain);
          from = this.at;
        }
        if (this.table !== undefined) this.table[grain % TABLE_ENTRIES] = this.sectorAt(this.at);
        pieces.push(grainMarker(grain, data));
        this.at += pieces.at(-1)?.length ?? 0;
      }
      await this.writeAll(pieces, from);
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  private async writeAll(pieces: readonly Buffer[], offset: number): Promise<void> {
    if (pieces.length > 0) await this.file.write(Buffer.concat(pieces), offset);
  }

  private async beginTable(grain: number): Promise<void> {
    await this.endTable();
    this.table = new Uint32Array(TABLE_ENTRIES);
    this.tableIndex = Math.floor(grain / TABLE_ENTRIES);
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
    const sector = this.sectorAt(this.at);
    await this.file.write(bytes, this.at);
    this.at += bytes.length;
    return sector;
  }

  private sectorAt(offset: number): number {
    const sector = offset / SECTOR;
    if (sector <= MAX_ENTRY) return sector;
    throw new BlockError('EFBIG', 'Cannot write the stream: it would be larger than 2 TiB');
  }
}

/** A compressed grain as it stands in the file, whole sectors. */
function grainMarker(grain: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(alignUp(MARKER_HEAD + data.length, SECTOR));
  bytes.writeBigUInt64LE(BigInt(grain) * BigInt(GRAIN));
  bytes.writeUInt32LE(data.length, 8);
  data.copy(bytes, MARKER_HEAD);
  return bytes;
}

/** The last one of a disk has zeroes behind its end: not every reader takes a short one. */
function wholeGrain(bytes: Buffer): Buffer {
  if (bytes.length === GRAIN_BYTES) return bytes;
  return Buffer.concat([bytes, Buffer.alloc(GRAIN_BYTES - bytes.length)]);
}

function deflated(bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    deflate(bytes, (error, data) => {
      if (error === null) resolve(data);
      else reject(error);
    });
  });
}
