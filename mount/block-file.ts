import type { FuseExport } from './export.ts';
import type { InodeOptions } from './inode.ts';
import { Inode, timeNow } from './inode.ts';
import type { Attributes, TimeSpec } from './protocol/attributes.ts';
import { FileType, PAGE } from './protocol/constants.ts';
import type { Windows } from './windows.ts';

const MAX_BLOCK_SIZE = 2 * 1_048_576;

/** Attributes of the host file behind a disk that the kernel passes through. */
export interface HostFile {
  /** Descriptor of the whole host file, bytes at the same offsets. */
  readonly fd: number;
  mtime(): TimeSpec;
  /** The kernel may have written past the end: the size of the export's node is what the host file's is from now on. */
  remeasure(): void;
}

export interface BlockFileOptions extends InodeOptions {
  readonly export: FuseExport;
  /** Bytes that the image takes, for st_blocks; the size when it can't be told. */
  readonly allocated?: () => number;
  /** Allocation unit (cluster) in bytes, for st_blksize. */
  readonly allocationUnit?: number;
  /**
   * The host file if, now, the disk is the identity over it and nothing has to see the bytes: asked at each first open.
   * While one is open the caller keeps it so. A write past the end grows the host file, whatever `growable` says.
   */
  readonly passthrough?: () => HostFile | undefined;
  /**
   * The kernel caches nothing of it: its bytes are written by another name, too. Asked at each open; who has it open by
   * then may go on with what was cached.
   */
  readonly uncached?: () => boolean;
  /** Called when the last that had it open has closed it. */
  readonly released?: () => void;
}

/** A disk as a regular file. */
export class BlockFile extends Inode {
  protected readonly type = FileType.regular;
  readonly export: FuseExport;
  /** The same bytes under other names; undefined where there are none. */
  windows: Windows | undefined = undefined;
  /** The kernel may have cached content: set by the first open that lets it. */
  mayBeCached = false;
  /** It is open and not to be cached; but what somebody has mapped, the kernel has in its cache as long. */
  mayBeMapped = false;
  private readonly options: BlockFileOptions;
  private readonly blockSize: number;
  /** When content was last changed, as Date.now() tells; 0 for never since mtime was set. */
  private changedAt = 0;
  /** Set while opens are passed through. */
  private hostFile: HostFile | undefined;
  private hostTime: TimeSpec | undefined;

  constructor(options: BlockFileOptions) {
    super(options, options.export.options.writable ? 0o600 : 0o400);
    this.options = options;
    this.export = options.export;
    this.blockSize = Math.min(MAX_BLOCK_SIZE, Math.max(PAGE, options.allocationUnit ?? PAGE));
  }

  get uncached(): boolean {
    return this.options.uncached?.() === true;
  }

  /** Owner, mode and time as the maker of a further file over the same disk should give them. */
  get identity(): InodeOptions {
    return { uid: this.uid, gid: this.gid, mode: this.permissions, mtime: this.mtime };
  }

  /** Content has changed now: mtime and ctime follow. Called for every write, allocates nothing. */
  touch(): void {
    this.changedAt = Date.now();
  }

  /** Content of [offset, offset + length) has changed now: under the other names that show it, too. Allocates nothing. */
  wrote(offset: number, length: number): void {
    this.changedAt = Date.now();
    this.windows?.wrote(this, offset, length);
  }

  released(): void {
    this.mayBeMapped = false;
    this.options.released?.();
  }

  /** A host file to pass through, for a first open. */
  passthroughFile(): HostFile | undefined {
    return this.options.passthrough?.();
  }

  /** From now on the kernel writes to the host file past this server: its mtime tells when content has changed. */
  startPassthrough(host: HostFile): void {
    this.hostFile = host;
    this.hostTime = host.mtime();
  }

  endPassthrough(): void {
    this.settleTimes();
    this.hostFile = undefined;
  }

  /** Clears the mode bits that a write has to clear: set-user-ID, set-group-ID. */
  dropPrivileges(): void {
    this.permissions &= 0o1777;
  }

  override change(change: Parameters<Inode['change']>[0]): void {
    this.settleTimes();
    super.change(change);
  }

  attributes(): Attributes {
    this.settleTimes();
    const { size } = this.export;
    return {
      ...this.common(),
      size,
      allocated: this.options.allocated?.() ?? size,
      blockSize: this.blockSize,
    };
  }

  /** Turns what the hot path noted, and what the kernel wrote past this server, into times. */
  private settleTimes(): void {
    if (this.changedAt !== 0) {
      this.mtime = { sec: Math.floor(this.changedAt / 1000), nsec: (this.changedAt % 1000) * 1_000_000 };
      this.ctime = this.mtime;
      this.changedAt = 0;
    }
    if (this.hostFile !== undefined) this.followHost(this.hostFile);
  }

  private followHost(host: HostFile): void {
    host.remeasure();
    const time = host.mtime();
    const seen = this.hostTime;
    this.hostTime = time;
    if (seen === undefined || (seen.sec === time.sec && seen.nsec === time.nsec)) return;
    this.mtime = time;
    this.ctime = timeNow();
  }
}
