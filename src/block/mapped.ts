/**
 * The mover of bytes for every format. A mapping driver says where a range is; this walks the answers and moves.
 *
 *   tryRead/tryWrite   one turn, no lock: whatever is decided stays true until the turn ends
 *   read/write/...     hold a range lock (ranges.ts) across their awaits:
 *                      shared     reading, and writing in place
 *                      exclusive  everything that changes the mapping, on whole allocation units
 *
 * A read that waits holds its lock, so a place it reads from is not given to somebody else meanwhile.
 */
import type { Child } from './child.ts';
import type { MappingDriver } from './driver.ts';
import { ZeroFlag } from './driver.ts';
import { Extent } from './extent.ts';
import type { Limits } from './limits.ts';
import { MappedWriter, requireInside } from './mapped-write.ts';
import type { NodeIo } from './node-io.ts';
import type { RangeLocks } from './ranges.ts';
import { MappedZeroer } from './mapped-zero.ts';
import { alignDown, alignUp } from '../util/sizes.ts';

const COPY_UP_CHUNK = 1024 * 1024;

/** Where the backing child is looked up, at every use: the graph may change it while the node is open. */
export interface BackingEdge {
  readonly cow: Child | undefined;
}

export class MappedIo implements NodeIo {
  private readonly impl: MappingDriver;
  private readonly edges: BackingEdge;
  private readonly locks: RangeLocks;
  private readonly extent = new Extent();
  private readonly writer: MappedWriter;
  private readonly zeroer: MappedZeroer;

  constructor(impl: MappingDriver, edges: BackingEdge, locks: RangeLocks) {
    this.impl = impl;
    this.edges = edges;
    this.locks = locks;
    this.writer = new MappedWriter(impl, this, locks);
    this.zeroer = new MappedZeroer(impl, this, this.writer, locks);
  }

  get size(): number {
    return this.impl.size;
  }

  get limits(): Limits {
    return this.impl.limits;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const extent = this.extent;
    const end = at + length;
    let from = offset;
    for (let to = at; to < end;) {
      if (!this.impl.tryMap(from, end - to, extent)) return false;
      const step = extent.length;
      if (step <= 0 || !this.tryReadExtent(extent, bytes, to, from)) return false;
      to += step;
      from += step;
    }
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.writer.tryWrite(bytes, at, length, offset);
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    const lock = await this.locks.acquire(offset, bytes.length, false);
    try {
      // The disk may have shrunk while the lock was waited for.
      const inside = Math.max(0, Math.min(bytes.length, this.size - offset));
      bytes.fill(0, inside);
      await this.readLocked(bytes.subarray(0, inside), offset);
    } finally {
      lock.release();
    }
  }

  /** Reads for a caller that holds the range: copy-on-write reads what is about to be replaced. */
  async readLocked(bytes: Buffer, offset: number): Promise<void> {
    const extent = new Extent();
    const pending: Promise<void>[] = [];
    try {
      for (let at = 0; at < bytes.length;) {
        await this.map(offset + at, bytes.length - at, extent);
        const step = extent.length;
        if (step <= 0) throw new RangeError(`the driver maps nothing at ${offset + at}`);
        if (!this.tryReadExtent(extent, bytes, at, offset + at)) {
          const piece = this.readExtent(extent, bytes.subarray(at, at + step), offset + at);
          piece.catch(() => {});
          pending.push(piece);
        }
        at += step;
      }
    } finally {
      await Promise.allSettled(pending);
    }
    await Promise.all(pending);
  }

  write(bytes: Buffer, offset: number): Promise<void> {
    return this.writer.write(bytes, offset);
  }

  writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    return this.zeroer.writeZeroes(offset, length, flags);
  }

  zeroLocked(offset: number, length: number): Promise<void> {
    return this.zeroer.writeZeroesLocked(offset, length, ZeroFlag.mayUnmap);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.zeroer.discard(offset, length);
  }

  async writeCompressed(bytes: Buffer, offset: number): Promise<void> {
    await this.exclusively(offset, bytes.length, async () => {
      requireInside(this.impl, offset + bytes.length);
      const { allocationUnit } = this.impl.limits;
      for (let at = 0; at < bytes.length; at += allocationUnit) {
        await this.writeUnitCompressed(bytes.subarray(at, at + allocationUnit), offset + at);
      }
    });
  }

  async copyUp(offset: number, length: number): Promise<void> {
    await this.exclusively(offset, length, async (start, end) => {
      for (let at = start; at < end;) at += await this.copyUpPiece(at, end - at);
    });
  }

  flush(): Promise<void> {
    return this.impl.flush();
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    return this.impl.tryMap(offset, max, out);
  }

  loadStatus(): Promise<void> {
    return this.impl.load();
  }

  /** The mapping at `offset`, loading tables as it takes. The answer holds until the caller's next await. */
  async map(offset: number, max: number, out: Extent): Promise<void> {
    while (!this.impl.tryMap(offset, max, out)) await this.impl.load();
  }

  /** Whether a range is sure to read as zeroes, as far as what is in memory tells. Never waits. */
  readsAsZero(offset: number, length: number): boolean {
    const extent = this.extent;
    for (let at = offset; at < offset + length; at += extent.length) {
      if (!this.impl.tryMap(at, offset + length - at, extent) || extent.length <= 0) return false;
      if (extent.kind === 'zero') continue;
      if (extent.kind !== 'unallocated') return false;
      const { cow } = this.edges;
      if (cow !== undefined && at < cow.size) return false;
    }
    return true;
  }

  async loadMapping(offset: number, length: number): Promise<void> {
    const extent = new Extent();
    for (let at = offset; at < Math.min(offset + length, this.size); at += extent.length) {
      await this.map(at, offset + length - at, extent);
      if (extent.length <= 0 || extent.kind === 'data' || extent.kind === 'opaque') return;
    }
  }

  private async writeUnitCompressed(bytes: Buffer, offset: number): Promise<void> {
    if ((await this.impl.writeCompressed?.(bytes, offset)) === true) return;
    for (let at = 0; at < bytes.length;) at += await this.writer.writeLocked(bytes.subarray(at), offset + at);
  }

  /** Runs with the allocation units touched, cut at the end of the disk, held exclusively. */
  private async exclusively(
    offset: number,
    length: number,
    run: (start: number, end: number) => Promise<void>,
  ): Promise<void> {
    const unit = this.impl.limits.allocationUnit;
    const start = alignDown(offset, unit);
    const stop = alignUp(offset + length, unit);
    const lock = await this.locks.acquire(start, stop - start, true);
    try {
      await run(start, Math.min(this.size, stop));
    } finally {
      lock.release();
    }
  }

  /** One extent, its range held exclusively; returns how much of it is done. */
  private async copyUpPiece(offset: number, max: number): Promise<number> {
    const extent = new Extent();
    await this.map(offset, max, extent);
    const { cow } = this.edges;
    const inside = cow === undefined ? 0 : Math.min(extent.length, cow.size - offset);
    if (extent.kind !== 'unallocated' || inside <= 0) return Math.max(1, extent.length);
    const bytes = Buffer.allocUnsafe(Math.min(COPY_UP_CHUNK, inside));
    await cow?.read(bytes, offset);
    for (let at = 0; at < bytes.length;) at += await this.writer.writeLocked(bytes.subarray(at), offset + at);
    return bytes.length;
  }

  private tryReadExtent(extent: Extent, bytes: Buffer, at: number, offset: number): boolean {
    const { length } = extent;
    switch (extent.kind) {
      case 'data':
        if (extent.child?.tryRead(bytes, at, length, extent.offset) !== true) return false;
        this.impl.codec?.decode(bytes, at, length, offset, extent.offset);
        return true;
      case 'unallocated':
        if (this.edges.cow !== undefined) return this.edges.cow.tryRead(bytes, at, length, offset);
        bytes.fill(0, at, at + length);
        return true;
      case 'opaque':
        return this.impl.tryReadOpaque?.(bytes, at, length, offset) ?? false;
      case 'zero':
      case 'eof':
        bytes.fill(0, at, at + length);
        return true;
    }
  }

  private async readExtent(extent: Extent, bytes: Buffer, offset: number): Promise<void> {
    const { kind, child, offset: place } = extent;
    if (kind === 'data') {
      await child?.read(bytes, place);
      this.impl.codec?.decode(bytes, 0, bytes.length, offset, place);
    } else if (kind === 'unallocated') {
      await this.edges.cow?.read(bytes, offset);
    } else {
      await this.impl.readOpaque?.(bytes, offset);
    }
  }
}
