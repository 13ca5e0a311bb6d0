import debug from 'debug';
import { changeDriverSize } from './change-size.ts';
import type { Child, ChildParent } from './child.ts';
import type { Driver, OpenDriver } from './driver.ts';
import { WriteFlag, ZeroFlag } from './driver.ts';
import { BlockError, withContext } from './errors.ts';
import type { BlockStatus, Extent } from './extent.ts';
import { FilterIo } from './filter-io.ts';
import type { FileChange, FormatGuard } from './format-guard.ts';
import type { Limits } from './limits.ts';
import { MappedIo } from './mapped.ts';
import { NodeCounters } from './node-counters.ts';
import type { NodeIo } from './node-io.ts';
import { RangeLocks } from './ranges.ts';
import { RequestIo } from './request-io.ts';
import { outsideUnits, readAligned, writeAligned } from './read-modify-write.ts';
import type { CommonOptions } from './schema.ts';
import { chainStatus } from './status.ts';
import { hasWholeUnit } from './whole-units.ts';
import { watchOf } from './write-watch.ts';
import type { WriteWatch } from './write-watch.ts';
import { isZero, writeZeroBytes } from './zero.ts';
import { alignDown, alignUp } from '../util/sizes.ts';

const logData = debug('blockfuse:data');

const EVERYTHING = { offset: 0, length: Number.MAX_SAFE_INTEGER, exclusive: true };

type Counted = keyof NodeCounters['failed'];

/**
 * A node of the graph: one open driver behind a strict wrapper. The wrapper does once what every driver may then
 * assume (driver.ts). Only children (child.ts) call the I/O methods; only the graph changes parents, children and options.
 */
export class Node implements ChildParent {
  readonly name: string;
  readonly driver: Driver;
  readonly impl: OpenDriver;
  readonly children: ReadonlyMap<string, Child>;
  /** The backing child; set by the graph together with `children`. */
  cow: Child | undefined;
  readonly parents = new Set<Child>();
  /** Ranges whose mapping or content is in use by requests that wait (mapped.ts). */
  readonly locks = new RangeLocks();
  /** Ranges under read-modify-write because of alignment; taken before `locks`. */
  readonly alignLocks = new RangeLocks();
  readonly counters = new NodeCounters();
  readonly io: NodeIo;
  private readonly filtered: Child | undefined;
  /** Changes with every change of content: what a stable mtime is made from. */
  generation = 0;
  common: CommonOptions;
  /** Set for the file of a raw disk whose format was guessed. */
  guard: FormatGuard | undefined = undefined;
  /** The options tree that the node was opened with, for reopen and for introspection. */
  options: Readonly<Record<string, unknown>>;
  /** The node whose options it was opened within: it inherits from it, also in a reopen. None when opened by itself. */
  heirOf: Node | undefined = undefined;
  /** Dirty bitmaps and what else is told of each write; undefined while there was never any. */
  watch: WriteWatch | undefined;
  private inFlight = 0;
  private readonly idleWaiters: (() => void)[] = [];

  constructor(parts: {
    name: string;
    driver: Driver;
    impl: OpenDriver;
    children: ReadonlyMap<string, Child>;
    common: CommonOptions;
    options: Readonly<Record<string, unknown>>;
  }) {
    this.name = parts.name;
    this.driver = parts.driver;
    this.impl = parts.impl;
    this.children = parts.children;
    this.cow = parts.children.get('backing');
    this.common = parts.common;
    this.options = parts.options;
    this.watch = watchOf(parts.impl);
    this.filtered = this.impl.family === 'filter' ? this.filteredChild() : undefined;
    this.io = this.makeIo();
  }

  get label(): string {
    return `node "${this.name}"`;
  }

  /** The file name a user knows this node by; '' where there is none (null, mem). */
  get filename(): string {
    if (this.impl.filename !== undefined) return this.impl.filename;
    const below =
      this.children.get('file') ?? [...this.children.values()].find((child) => (child.roles & 4) !== 0);
    return below?.node.filename ?? '';
  }

  get parentNode(): Node {
    return this;
  }

  get size(): number {
    return this.io.size;
  }

  get limits(): Limits {
    return this.io.limits;
  }

  /** A filter can't write either when what it filters can't be written. */
  get readOnly(): boolean {
    return this.common.readOnly || this.impl.readOnly === true || this.filtered?.node.readOnly === true;
  }

  /** Requests that wait for something. */
  get underWay(): number {
    return this.inFlight;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const size = this.io.size;
    if (offset + length > size) return this.tryReadTail(bytes, at, length, offset);
    const { requestAlignment, maxTransfer } = this.io.limits;
    if (requestAlignment !== 1 && (offset % requestAlignment !== 0 || length % requestAlignment !== 0))
      return false;
    if (length > maxTransfer || !this.io.tryRead(bytes, at, length, offset)) return false;
    this.counters.reads += 1;
    this.counters.readBytes += length;
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.readOnly) return false;
    if (offset + length > this.io.size && this.impl.family !== 'request') return false;
    const { requestAlignment, maxTransfer } = this.io.limits;
    if (requestAlignment !== 1 && (offset % requestAlignment !== 0 || length % requestAlignment !== 0))
      return false;
    if (length > maxTransfer || !this.locks.isFreeOfExclusive(offset, length)) return false;
    if (!this.alignLocks.isFreeOfExclusive(offset, length)) return false;
    if (this.guard?.concerns(offset, length, this.io.size) === true) return false;
    const zeroes = this.common.detectZeroes !== 'off' && isZero(bytes, at, length);
    if (zeroes && hasWholeUnit(this, offset, length)) return false;
    const isThere = zeroes && this.io.readsAsZero?.(offset, length) === true;
    if (!isThere && !this.io.tryWrite(bytes, at, length, offset)) return false;
    this.changed(offset, length);
    this.countWrite(offset, length);
    return true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    if (bytes.length === 0 || this.tryRead(bytes, 0, bytes.length, offset)) return;
    await this.track('read', offset, bytes.length, async () => {
      const inside = Math.max(0, Math.min(bytes.length, this.size - offset));
      bytes.fill(0, inside);
      if (inside > 0) await readAligned(this.io, bytes.subarray(0, inside), offset);
      this.counters.reads += 1;
      this.counters.readBytes += bytes.length;
    });
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    if (bytes.length === 0) return;
    const { detectZeroes, discard } = this.common;
    const zeroes = detectZeroes !== 'off' && isZero(bytes, 0, bytes.length);
    if (zeroes && hasWholeUnit(this, offset, bytes.length)) {
      const unmap = detectZeroes === 'unmap' && discard === 'unmap' ? ZeroFlag.mayUnmap : 0;
      await this.writeZeroes(offset, bytes.length, unmap | (flags & WriteFlag.fua));
      return;
    }
    await this.track('write', offset, bytes.length, async () => {
      this.requireWritable('write to');
      if (zeroes) await this.io.loadMapping?.(offset, bytes.length);
      if (!zeroes || !this.tryWrite(bytes, 0, bytes.length, offset)) await this.writeNow(bytes, offset);
      if ((flags & WriteFlag.fua) !== 0) await this.io.flush();
    });
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    if (length === 0) return;
    await this.track('write zeroes', offset, length, async () => {
      this.requireWritable('write zeroes to');
      const allowed = this.common.discard === 'unmap' ? flags : flags & ~ZeroFlag.mayUnmap;
      const request = { action: 'write zeroes to', offset, length, flags: allowed };
      await this.guarded(request, () =>
        this.changing(offset, length, writeZeroBytes(this.io, this.alignLocks, request)),
      );
      this.counters.zeroes += 1;
      if ((flags & ZeroFlag.fua) !== 0) await this.io.flush();
    });
  }

  /** A hint: dropped where the options say ignore, the driver can't, or the range covers no whole unit. */
  async discard(offset: number, length: number): Promise<void> {
    const unit = this.limits.discardAlignment;
    const start = alignUp(offset, unit);
    const end = Math.min(offset + length, this.size);
    const stop = end === this.size ? end : alignDown(end, unit);
    if (this.common.discard === 'ignore' || stop <= start) return;
    await this.track('discard', start, stop - start, async () => {
      this.requireWritable('discard in');
      const step = alignDown(Math.min(this.limits.maxDiscard, Number.MAX_SAFE_INTEGER - unit), unit);
      for (let at = start; at < stop; at += step) {
        const change = { action: 'discard in', offset: at, length: Math.min(step, stop - at) };
        await this.guarded(change, () =>
          this.changing(at, change.length, this.discardStep(at, change.length)),
        );
      }
      this.counters.discards += 1;
      this.counters.discardedBytes += stop - start;
    });
  }

  async flush(): Promise<void> {
    if (this.common.cacheNoFlush) return;
    await this.track('flush', 0, 0, async () => {
      await this.io.flush();
      this.counters.flushes += 1;
    });
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (offset >= this.size) return out.setEof();
    return this.io.tryStatus(offset, Math.min(max, this.size - offset), out);
  }

  async status(offset: number, max: number, out: BlockStatus): Promise<void> {
    await this.track('status', offset, max, () => chainStatus(this, offset, max, out));
  }

  /** A write that asks for compression: of whole allocation units, where the driver can. */
  async writeCompressed(bytes: Buffer, offset: number): Promise<void> {
    const unit = this.limits.allocationUnit;
    const end = offset + bytes.length;
    const whole = offset % unit === 0 && (end % unit === 0 || end === this.size) && end <= this.size;
    if (this.io.writeCompressed === undefined || !whole || this.common.detectZeroes !== 'off') {
      await this.write(bytes, offset, 0);
      return;
    }
    await this.track('write compressed', offset, bytes.length, async () => {
      this.requireWritable('write to');
      const written = this.io.writeCompressed?.(bytes, offset);
      await this.changing(offset, bytes.length, written ?? Promise.resolve());
      this.countWrite(offset, bytes.length);
    });
  }

  /** See Child.copyUp. */
  async copyUp(offset: number, length: number): Promise<void> {
    await this.track('copy up', offset, length, async () => {
      this.requireWritable('copy up into');
      await this.io.copyUp?.(offset, Math.min(length, this.size - offset));
    });
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    await this.track('resize', size, 0, () => this.changeSize(size, shrink, false));
  }

  /** Makes it at least `size` bytes long. Writes further out may be under way: they are not cut off. */
  async growTo(size: number): Promise<void> {
    if (size > this.size) await this.track('grow', size, 0, () => this.changeSize(size, false, true));
  }

  /** Makes room for a write that ends at `end`: formats grow, protocols grow by being written to. */
  async growFor(end: number): Promise<void> {
    if (this.impl.family === 'mapping') await this.growTo(end);
    else if (this.impl.family === 'filter') await this.filteredChild().node.growFor(end);
  }

  /** Resolves when no request is under way here; the caller has made sure that none comes. */
  async idle(): Promise<void> {
    if (this.inFlight === 0) return;
    await new Promise<void>((resolve) => {
      this.idleWaiters.push(resolve);
    });
  }

  /** For the graph's transactions only. */
  setChild(name: string, child: Child | undefined): void {
    const children = this.children as Map<string, Child>;
    if (child === undefined) children.delete(name);
    else children.set(name, child);
    this.cow = children.get('backing');
  }

  filteredChild(): Child {
    for (const child of this.children.values()) if ((child.roles & 4) !== 0) return child;
    throw new BlockError(
      'EINVAL',
      `Cannot pass a request on from "${this.name}": the filter has no filtered child`,
    );
  }

  private makeIo(): NodeIo {
    const { impl } = this;
    if (impl.family === 'mapping') return new MappedIo(impl, this, this.locks);
    if (impl.family === 'request') return new RequestIo(impl);
    return new FilterIo(impl, this.filteredChild());
  }

  private tryReadTail(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const inside = this.io.size - offset;
    if (inside > 0 && !this.tryRead(bytes, at, inside, offset)) return false;
    bytes.fill(0, at + Math.max(0, inside), at + length);
    return true;
  }

  private async changeSize(size: number, shrink: boolean, atLeast: boolean): Promise<void> {
    this.requireWritable('resize');
    this.watch?.requireRoom(size);
    const { impl } = this;
    if (impl.resize === undefined && impl.family === 'filter') {
      await (atLeast ? this.filteredChild().growTo(size) : this.filteredChild().resize(size, shrink));
    } else if (impl.resize === undefined) {
      throw new BlockError('ENOTSUP', `Cannot resize "${this.name}": the ${this.driver.name} driver can't`);
    } else {
      const change = { action: 'resize', offset: 0, length: 0, size };
      const make = (): Promise<void> => changeDriverSize(this, size, { shrink, atLeast });
      await this.locks.during(EVERYTHING, () => this.guarded(change, make));
    }
    this.generation += 1;
    this.watch?.resized(this.size);
  }

  private async writeNow(bytes: Buffer, offset: number): Promise<void> {
    await this.guarded({ action: 'write to', offset, length: bytes.length, bytes }, () =>
      this.changing(offset, bytes.length, writeAligned(this.io, this.alignLocks, bytes, offset)),
    );
    this.countWrite(offset, bytes.length);
  }

  /** Content has changed. Allocates nothing. */
  private changed(offset: number, length: number): void {
    this.generation += 1;
    if (this.watch !== undefined) this.watch.wrote(offset, length);
  }

  /** A change under way; what fails may have changed something all the same. */
  private async changing(offset: number, length: number, change: Promise<void>): Promise<void> {
    try {
      await change;
    } finally {
      this.changed(offset, length);
    }
  }

  /**
   * A mapping holds its own locks. Elsewhere, what is written past the end would be cut off by a growth to somewhere before
   * it: the range is held, which keeps every change of size out (changeSize).
   */
  private async guarded(change: FileChange, make: () => Promise<void>): Promise<void> {
    const { offset, length } = change;
    const run = (): Promise<void> => this.guard?.run(this.io, change, make) ?? make();
    const isPastEnd = this.impl.family !== 'mapping' && offset + length > this.size;
    await (isPastEnd ? this.locks.during({ offset, length, exclusive: false }, run) : run());
  }

  private async discardStep(offset: number, length: number): Promise<void> {
    try {
      await outsideUnits(this.io, this.alignLocks, { offset, length }, () => this.io.discard(offset, length));
    } catch (error) {
      if (!(error instanceof BlockError) || error.code !== 'ENOTSUP') throw error;
    }
  }

  private countWrite(offset: number, length: number): void {
    this.counters.writes += 1;
    this.counters.writtenBytes += length;
    if (offset + length > this.counters.writtenEnd) this.counters.writtenEnd = offset + length;
  }

  private requireWritable(action: string): void {
    if (!this.readOnly) return;
    throw new BlockError('EROFS', `Cannot ${action} "${this.name}": the node is read-only`, {
      node: this.name,
    });
  }

  private async track(
    operation: string,
    offset: number,
    length: number,
    run: () => Promise<void>,
  ): Promise<void> {
    if (logData.enabled) logData('%s: %s offset=%d length=%d', this.name, operation, offset, length);
    this.inFlight += 1;
    this.counters.slow += 1;
    try {
      await run();
    } catch (error) {
      this.counters.errors += 1;
      if (operation in this.counters.failed) this.counters.failed[operation as Counted] += 1;
      throw withContext(error, { node: this.name, operation, offset, length });
    } finally {
      this.inFlight -= 1;
      if (this.inFlight === 0) for (const wake of this.idleWaiters.splice(0)) wake();
    }
  }
}
