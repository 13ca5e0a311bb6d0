import type { Attributes, Validity } from './attributes.ts';
import { ENTRY_OUT_SIZE, putEntryOut, putU64 } from './attributes.ts';
import { FileType } from './constants.ts';

const DIRENT_SIZE = 24;

export interface DirectoryEntry {
  readonly name: string;
  readonly ino: number;
  /** File type bits of its mode. */
  readonly type: number;
}

/** Fills the answer of READDIR and READDIRPLUS entry by entry, up to the size that the kernel asked for. */
export class DirectoryListing {
  private readonly bytes: Buffer;
  private length = 0;

  constructor(size: number) {
    this.bytes = Buffer.alloc(size);
  }

  /** fuse_dirent; `next` is the offset at which the listing goes on after this entry. False: no room, nothing written. */
  add(entry: DirectoryEntry, next: number): boolean {
    return this.put(this.length, entry, next);
  }

  /** fuse_direntplus. `.` and `..` go without attributes: the kernel does not count a lookup for them. */
  addPlus(
    entry: DirectoryEntry,
    next: number,
    details: { attributes: Attributes; validity: Validity } | undefined,
  ): boolean {
    const at = this.length;
    if (!this.put(at + ENTRY_OUT_SIZE, entry, next)) return false;
    if (details !== undefined) putEntryOut(this.bytes, at, details.attributes, details.validity);
    return true;
  }

  finish(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  private put(at: number, entry: DirectoryEntry, next: number): boolean {
    const name = Buffer.from(entry.name);
    const end = at + Math.ceil((DIRENT_SIZE + name.length) / 8) * 8;
    if (end > this.bytes.length) return false;
    putU64(this.bytes, at, entry.ino);
    putU64(this.bytes, at + 8, next);
    this.bytes.writeUInt32LE(name.length, at + 16);
    this.bytes.writeUInt32LE((entry.type & FileType.mask) / 0o10000, at + 20);
    name.copy(this.bytes, at + DIRENT_SIZE);
    this.length = end;
    return true;
  }
}
