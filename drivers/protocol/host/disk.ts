/** What a host file and a host block device have in common: everything but holes, discards and sizes. */
import type { PermissionChange, RequestDriver } from '../../../src/block/driver.ts';
import { WriteFlag } from '../../../src/block/driver.ts';
import { BlockError, withContext } from '../../../src/block/errors.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import { Permission } from '../../../src/block/permissions.ts';
import type { PermissionPair } from '../../../src/block/permissions.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import { closeFile, closeNow, fileFacts, openAgain, syncData } from '../../../src/sys/file.ts';
import { addressIn, allocateAligned } from '../../../src/sys/memory.ts';
import type { PositionedIo } from '../../../src/sys/positioned.ts';
import type { ImageLocks, Locking } from './image-locks.ts';
import { imageLocks } from './image-locks.ts';
import type { HostHandle } from './opening.ts';
import { openHandle } from './opening.ts';

const CHANGING = Permission.write | Permission.resize;
const NO_CHANGE: PermissionChange = { commit: () => undefined, abort: () => undefined };

/** Options that a reopen must repeat: they can't change while the image is open. */
export interface HostOptions {
  readonly filename: string;
  readonly locking: Locking;
  readonly 'share-rw': boolean;
}

export abstract class HostDisk implements RequestDriver {
  readonly family = 'request';
  readonly filename: string;
  limits: Limits;
  size = 0;
  protected io: PositionedIo;
  private handle: HostHandle;
  /** Of a reopen between its two halves: permissions are worked out with it. */
  private next: HostHandle | undefined;
  private readonly options: HostOptions;
  private readonly locks: ImageLocks | undefined;
  /** After a failed flush nobody knows what reached the disk: every later one fails too, until the image is reopened. */
  private flushFailure: BlockError | undefined;
  private flushing: Promise<void> | undefined;
  private nextFlush: Promise<void> | undefined;
  private closing: Promise<void> | undefined;

  protected constructor(handle: HostHandle, options: HostOptions) {
    this.filename = options.filename;
    this.options = options;
    this.handle = handle;
    this.io = handle.io;
    this.limits = limits(handle.alignment);
    this.locks = imageLocks(handle.io, options.locking);
    this.setForceShare(handle);
  }

  get hostFd(): number {
    return this.io.fd;
  }

  get readOnly(): boolean {
    return (this.next ?? this.handle).refused;
  }

  protected get writable(): boolean {
    return this.handle.writable;
  }

  remeasure(): void {
    this.size = this.sizeNow();
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.io.tryRead(bytes, at, length, offset);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const done = this.io.tryWrite(bytes, at, length, offset);
    if (offset + length > this.size) this.size = done ? offset + length : this.sizeNow();
    return done;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    if (this.isAligned(bytes)) {
      await this.io.read(bytes, offset);
      return;
    }
    const aligned = allocateAligned(bytes.length, this.limits.memoryAlignment);
    await this.io.read(aligned, offset);
    aligned.copy(bytes);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    try {
      await this.io.write(this.isAligned(bytes) ? bytes : this.alignedCopy(bytes), offset);
    } catch (error) {
      this.size = this.sizeNow();
      throw error;
    }
    this.size = Math.max(this.size, offset + bytes.length);
    if ((flags & WriteFlag.fua) !== 0) await this.flush();
  }

  /** Flushes that come while one is under way share the next: each needs one that starts after it came. */
  flush(): Promise<void> {
    if (this.handle.noFlush) return Promise.resolve();
    if (this.flushing === undefined) {
      this.flushing = this.sync().finally(() => {
        this.flushing = undefined;
      });
      return this.flushing;
    }
    this.nextFlush ??= this.flushing
      .catch(() => undefined)
      .then(() => {
        this.nextFlush = undefined;
        return this.flush();
      });
    return this.nextFlush;
  }

  /** A second call gets the outcome of the first: the numbers of the descriptors may be somebody else's by then. */
  close(): Promise<void> {
    this.closing ??= this.release();
    return this.closing;
  }

  private async release(): Promise<void> {
    try {
      if (this.writable) await this.flush();
    } finally {
      await this.io.retire();
      this.locks?.close();
      await closeFile(this.io);
    }
  }

  allocatedSize(): number {
    return fileFacts(this.io.fd).allocated;
  }

  modifiedAt(): number {
    return fileFacts(this.io.fd).mtimeMs;
  }

  setPermissions(wanted: PermissionPair): PermissionChange {
    const shared = this.options['share-rw'] ? wanted.shared : wanted.shared & ~CHANGING;
    return this.locks?.setPermissions({ used: wanted.used, shared }) ?? NO_CHANGE;
  }

  /** The same file, opened anew: the descriptor changes at commit. The locks are not touched (image-locks.ts). */
  async reopen(common: CommonOptions, options: unknown): Promise<PermissionChange> {
    this.refuseOtherOptions(options);
    if (this.writable && this.flushFailure === undefined) await this.flush();
    const next = await openHandle(this.filename, common, (mode) => openAgain(this.io, mode));
    this.next = next;
    this.setForceShare(next);
    return {
      commit: () => {
        const { io } = this;
        this.next = undefined;
        this.use(next);
        void this.closeUnused(io);
      },
      abort: () => {
        closeNow(next.io.fd);
        this.next = undefined;
        this.setForceShare(this.handle);
      },
    };
  }

  /** What began before a reopen ends on the descriptor that it began with. */
  private async closeUnused(io: PositionedIo): Promise<void> {
    await io.retire();
    try {
      closeNow(io.fd);
    } catch (error) {
      this.flushFailure ??= withContext(error, { path: this.filename });
    }
  }

  protected use(handle: HostHandle): void {
    this.handle = handle;
    this.io = handle.io;
    this.limits = { ...this.limits, ...handle.alignment };
    this.flushFailure = undefined;
  }

  /** Calls that wait, on the descriptor as it is now. */
  protected using<Result>(calls: (io: PositionedIo) => Promise<Result>): Promise<Result> {
    const { io } = this;
    return io.during(() => calls(io));
  }

  /** A write that failed may have made the file longer all the same. */
  private sizeNow(): number {
    return Math.max(this.size, fileFacts(this.io.fd).size);
  }

  private setForceShare({ forceShare }: HostHandle): void {
    if (this.locks !== undefined) this.locks.forceShare = forceShare;
  }

  private async sync(): Promise<void> {
    if (this.flushFailure !== undefined) throw this.flushFailure;
    try {
      await this.using(syncData);
    } catch (error) {
      this.flushFailure = withContext(error, { path: this.filename });
      throw this.flushFailure;
    }
  }

  private isAligned(bytes: Buffer): boolean {
    return this.limits.memoryAlignment === 1 || addressIn(bytes, 0) % this.limits.memoryAlignment === 0;
  }

  private alignedCopy(bytes: Buffer): Buffer {
    const aligned = allocateAligned(bytes.length, this.limits.memoryAlignment);
    bytes.copy(aligned);
    return aligned;
  }

  private refuseOtherOptions(options: unknown): void {
    const given: Partial<HostOptions> = typeof options === 'object' && options !== null ? options : {};
    for (const name of ['filename', 'locking', 'share-rw'] as const) {
      if (given[name] === undefined || given[name] === this.options[name]) continue;
      const text = `Cannot reopen "${this.filename}": ${name} can't change from ${this.options[name]} to ${given[name]}`;
      throw new BlockError('EINVAL', text, { path: this.filename });
    }
  }
}

/** Opens the descriptor and makes the disk of it; the descriptor does not outlive a failure. */
export async function openDisk<Disk>(
  opening: Promise<HostHandle>,
  make: (handle: HostHandle) => Disk,
): Promise<Disk> {
  const handle = await opening;
  try {
    return make(handle);
  } catch (error) {
    closeNow(handle.io.fd);
    throw error;
  }
}
