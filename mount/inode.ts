import type { Attributes, TimeSpec } from './protocol/attributes.ts';
import { FileType } from './protocol/constants.ts';

/** What the maker of a file may say about it; the rest has defaults. */
export interface InodeOptions {
  /** Permission bits. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: TimeSpec;
  /** The number that stat shows, in every mount; above 2^32, so that none that is made up meets it. */
  readonly ino?: number;
  /** Extended attributes by name, without the prefix `user.blockfuse.`. */
  readonly properties?: Readonly<Record<string, string>>;
  /** It may be gone, or be another one, from one moment to the next: the kernel asks at every look. */
  readonly fleeting?: boolean;
}

/** Changes by chmod, chown and touch; undefined fields stay. */
export interface OwnerChange {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly atime?: TimeSpec | undefined;
  readonly mtime?: TimeSpec | undefined;
}

export function timeNow(): TimeSpec {
  const now = Date.now();
  return { sec: Math.floor(now / 1000), nsec: (now % 1000) * 1_000_000 };
}

/**
 * Something with a number in the mounted tree. Mode, owner and times that are set from outside are kept as long as the
 * mount lives. Its maker returns the same object for the same thing, so the number is stable.
 */
export abstract class Inode {
  /** By which the kernel asks for it: given by the inode table when the kernel first hears of it. */
  ino = 0;
  /** Extended attributes by their whole names. */
  readonly properties: ReadonlyMap<string, string>;
  /** Seconds that the kernel may keep name and attributes without asking. */
  readonly validity: number;
  private readonly shownIno: number | undefined;
  /** Times that the kernel was told of it and has not forgotten. */
  lookups = 0;
  protected abstract readonly type: number;
  protected permissions: number;
  protected uid: number;
  protected gid: number;
  protected atime: TimeSpec;
  protected mtime: TimeSpec;
  protected ctime: TimeSpec;

  constructor(options: InodeOptions, permissions: number) {
    const now = timeNow();
    this.shownIno = options.ino;
    const properties = Object.entries(options.properties ?? {});
    this.properties = new Map(properties.map(([name, value]) => [`user.blockfuse.${name}`, value]));
    this.validity = options.fleeting === true ? 0 : 1;
    this.permissions = options.mode ?? permissions;
    this.uid = options.uid ?? process.getuid?.() ?? 0;
    this.gid = options.gid ?? process.getgid?.() ?? 0;
    this.mtime = options.mtime ?? now;
    this.atime = this.mtime;
    this.ctime = this.mtime;
  }

  abstract attributes(): Attributes;

  change(change: OwnerChange): void {
    this.permissions = (change.mode ?? this.permissions) & 0o7777;
    this.uid = change.uid ?? this.uid;
    this.gid = change.gid ?? this.gid;
    this.atime = change.atime ?? this.atime;
    this.mtime = change.mtime ?? this.mtime;
    this.ctime = timeNow();
  }

  protected common(): Omit<Attributes, 'size' | 'allocated' | 'blockSize'> {
    return {
      nodeId: this.ino,
      ino: this.shownIno ?? this.ino,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
      mode: this.type + this.permissions,
      nlink: this.type === FileType.directory ? 2 : 1,
      uid: this.uid,
      gid: this.gid,
    };
  }
}
