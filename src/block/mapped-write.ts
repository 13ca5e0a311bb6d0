import type { MappingDriver } from './driver.ts';
import { BlockError } from './errors.ts';
import { Extent, Placement } from './extent.ts';
import type { MappedIo } from './mapped.ts';
import type { RangeLocks } from './ranges.ts';
import { alignDown, alignUp } from '../util/sizes.ts';

/** Largest copy-on-write that the fast path does by itself: more would hold up the event loop. */
const SYNC_COPY_MAX = 256 * 1024;

/**
 * To be asked once a range is held: the disk may have shrunk while the lock was waited for, and there is no place behind its
 * end. Throws ENOSPC.
 */
export function requireInside({ size }: MappingDriver, end: number): void {
  if (end <= size) return;
  throw new BlockError('ENOSPC', `Cannot write: the request ends at ${end}, the disk now at ${size}`);
}

/** Writes through a mapping: in place where the place may be overwritten, else into a new one, then the tables. */
export class MappedWriter {
  private readonly impl: MappingDriver;
  private readonly io: MappedIo;
  private readonly locks: RangeLocks;
  private readonly extent = new Extent();
  private readonly placement = new Placement();
  /** Of this node alone: the node below may need its own while it is given this one's bytes. Made when first used. */
  private room: Buffer | undefined = undefined;

  constructor(impl: MappingDriver, io: MappedIo, locks: RangeLocks) {
    this.impl = impl;
    this.io = io;
    this.locks = locks;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const extent = this.extent;
    const end = at + length;
    let to = offset;
    for (let from = at; from < end;) {
      if (!this.impl.tryMap(to, end - from, extent) || extent.length <= 0) return false;
      let step = extent.length;
      if (extent.kind === 'data' && extent.writable) {
        if (!this.tryWriteInPlace(extent, bytes, from, to)) return false;
      } else {
        step = this.tryWriteNew(bytes, from, end - from, to);
        if (step === 0) return false;
      }
      from += step;
      to += step;
    }
    return true;
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      at += await this.writePiece(bytes.subarray(at), offset + at);
    }
  }

  /** Writes some of `bytes` for a caller that holds the range exclusively; returns how many. */
  async writeLocked(bytes: Buffer, offset: number): Promise<number> {
    const extent = new Extent();
    await this.io.map(offset, bytes.length, extent);
    if (extent.kind === 'data' && extent.writable) return this.writeInPlace(extent, bytes, offset);
    return this.writeNew(bytes, offset);
  }

  private async writePiece(bytes: Buffer, offset: number): Promise<number> {
    const shared = await this.locks.acquire(offset, bytes.length, false);
    try {
      requireInside(this.impl, offset + bytes.length);
      const extent = new Extent();
      await this.io.map(offset, bytes.length, extent);
      if (extent.kind === 'data' && extent.writable) return await this.writeInPlace(extent, bytes, offset);
    } finally {
      shared.release();
    }
    const unit = this.impl.limits.allocationUnit;
    const start = alignDown(offset, unit);
    const exclusive = await this.locks.acquire(start, alignUp(offset + bytes.length, unit) - start, true);
    try {
      requireInside(this.impl, offset + bytes.length);
      return await this.writeLocked(bytes, offset);
    } finally {
      exclusive.release();
    }
  }

  private async writeInPlace(extent: Extent, bytes: Buffer, offset: number): Promise<number> {
    const { child, length, offset: place } = extent;
    const plain = bytes.subarray(0, length);
    const stored = this.encoded(plain, offset, place);
    await child?.write(stored, place);
    return length;
  }

  private async writeNew(bytes: Buffer, offset: number): Promise<number> {
    const { impl } = this;
    const place = new Placement();
    if (impl.tryAllocate === undefined)
      throw new BlockError('EROFS', 'Cannot write: the format is only read');
    while (!impl.tryAllocate(offset, bytes.length, place)) await impl.load();
    const end = Math.min(place.start + place.length, offset + bytes.length);
    const written = end - offset;
    try {
      await this.fill(place, bytes.subarray(0, written), offset);
    } catch (error) {
      impl.abort?.(place);
      throw error;
    }
    impl.commit?.(place);
    return written;
  }

  /** Writes the whole place: the request's bytes, and what the node read as before around them. */
  private async fill(place: Placement, bytes: Buffer, offset: number): Promise<void> {
    const head = offset - place.start;
    const tail = place.start + place.length - (offset + bytes.length);
    const bare =
      place.zeroed && this.impl.codec === undefined && this.aroundIsZero(place, offset, bytes.length);
    if (bare || (head === 0 && tail === 0)) {
      const at = place.offset + head;
      await place.child?.write(this.encoded(bytes, offset, at), at);
      return;
    }
    const whole = Buffer.allocUnsafe(place.length);
    if (head > 0) await this.io.readLocked(whole.subarray(0, head), place.start);
    bytes.copy(whole, head);
    if (tail > 0) await this.readTail(whole.subarray(place.length - tail), offset + bytes.length);
    this.impl.codec?.encode(whole, 0, whole.length, place.start, place.offset);
    await place.child?.write(whole, place.offset);
  }

  /** The last allocation unit may reach past the end of the disk: zeroes there. */
  private async readTail(bytes: Buffer, offset: number): Promise<void> {
    const inside = Math.max(0, Math.min(bytes.length, this.impl.size - offset));
    bytes.fill(0, inside);
    if (inside > 0) await this.io.readLocked(bytes.subarray(0, inside), offset);
  }

  private tryWriteInPlace(extent: Extent, bytes: Buffer, at: number, offset: number): boolean {
    const { child, length, offset: place } = extent;
    const { codec } = this.impl;
    if (child === undefined) return false;
    if (codec === undefined) return child.tryWrite(bytes, at, length, place);
    if (length > SYNC_COPY_MAX) return false;
    const scratch = this.scratch();
    bytes.copy(scratch, 0, at, at + length);
    codec.encode(scratch, 0, length, offset, place);
    return child.tryWrite(scratch, 0, length, place);
  }

  /** One allocation within this turn. Returns the bytes written, 0 when it would have to wait. */
  private tryWriteNew(bytes: Buffer, at: number, length: number, offset: number): number {
    const { impl, placement: place } = this;
    const unit = impl.limits.allocationUnit;
    const start = alignDown(offset, unit);
    if (impl.tryAllocate === undefined || impl.codec !== undefined) return 0;
    if (!this.locks.isFree(start, alignUp(offset + length, unit) - start)) return 0;
    if (!impl.tryAllocate(offset, length, place)) return 0;
    const written = Math.min(place.start + place.length - offset, length);
    if (this.tryFill(place, bytes, at, written, offset)) {
      impl.commit?.(place);
      return written;
    }
    impl.abort?.(place);
    return 0;
  }

  private tryFill(place: Placement, bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { child } = place;
    const head = offset - place.start;
    const tail = place.start + place.length - (offset + length);
    if (child === undefined) return false;
    if ((head === 0 && tail === 0) || (place.zeroed && this.aroundIsZero(place, offset, length))) {
      return child.tryWrite(bytes, at, length, place.offset + head);
    }
    if (place.length > SYNC_COPY_MAX) return false;
    if (!this.tryReadOld(0, head, place.start) || !this.tryReadOld(head + length, tail, offset + length))
      return false;
    const scratch = this.scratch();
    bytes.copy(scratch, head, at, at + length);
    return child.tryWrite(scratch, 0, place.length, place.offset);
  }

  private tryReadOld(at: number, length: number, offset: number): boolean {
    const inside = Math.max(0, Math.min(length, this.impl.size - offset));
    const scratch = this.scratch();
    if (inside > 0 && !this.io.tryRead(scratch, at, inside, offset)) return false;
    scratch.fill(0, at + inside, at + length);
    return true;
  }

  private aroundIsZero(place: Placement, offset: number, length: number): boolean {
    const end = Math.min(place.start + place.length, this.impl.size);
    const behind = offset + length;
    return (
      this.io.readsAsZero(place.start, offset - place.start) &&
      (behind >= end || this.io.readsAsZero(behind, end - behind))
    );
  }

  private scratch(): Buffer {
    this.room ??= Buffer.allocUnsafeSlow(SYNC_COPY_MAX);
    return this.room;
  }

  private encoded(bytes: Buffer, offset: number, place: number): Buffer {
    const { codec } = this.impl;
    if (codec === undefined) return bytes;
    const copy = Buffer.from(bytes);
    codec.encode(copy, 0, copy.length, offset, place);
    return copy;
  }
}
