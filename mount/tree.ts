import { BlockError } from '../src/block/errors.ts';
import type { InodeOptions } from './inode.ts';
import { Inode } from './inode.ts';
import type { Attributes } from './protocol/attributes.ts';
import { FileType, PAGE } from './protocol/constants.ts';

/**
 * The names and numbers of a mount: directories, disks (block-file.ts) and generated texts. A mount's root is a
 * directory, or a single disk where the mount point is a regular file.
 */

export interface DirectoryItem {
  readonly name: string;
  readonly inode: Inode;
}

/** Where a directory's entries come from when they are not fixed. It returns the same inode for the same thing. */
export interface DirectorySource {
  lookup(name: string): Promise<Inode | undefined>;
  list(): Promise<readonly DirectoryItem[]>;
}

export class Directory extends Inode implements DirectorySource {
  protected readonly type = FileType.directory;
  private readonly entries = new Map<string, Inode>();
  private readonly source: DirectorySource | undefined;
  /** The directory that it is in; itself for the root. For `..` only. */
  parent: Directory = this;

  constructor(options: InodeOptions = {}, source?: DirectorySource) {
    super(options, 0o755);
    this.source = source;
  }

  /** A fixed entry. The kernel may believe for a second that the name does not exist. */
  add(name: string, inode: Inode): void {
    if (this.entries.has(name)) throw new BlockError('EEXIST', `Cannot add "${name}": the name is taken`);
    if (inode instanceof Directory) inode.parent = this;
    this.entries.set(name, inode);
  }

  remove(name: string): Inode | undefined {
    const inode = this.entries.get(name);
    this.entries.delete(name);
    return inode;
  }

  async lookup(name: string): Promise<Inode | undefined> {
    return this.entries.get(name) ?? (await this.source?.lookup(name));
  }

  async list(): Promise<readonly DirectoryItem[]> {
    const fixed = [...this.entries].map(([name, inode]) => ({ name, inode }));
    return [...fixed, ...((await this.source?.list()) ?? [])];
  }

  attributes(): Attributes {
    return { ...this.common(), size: 0, allocated: 0, blockSize: PAGE };
  }
}

/** A read-only file whose text is made when it is opened. */
export class TextFile extends Inode {
  protected readonly type = FileType.regular;
  private readonly content: () => Promise<string>;
  /** Bytes of the text, as far as it is known. */
  protected size = 0;

  constructor(content: () => Promise<string>, options: InodeOptions = {}) {
    super({ ...options, fleeting: true }, 0o444);
    this.content = content;
  }

  /** What one open file shows, unchanged until it is closed. */
  async open(): Promise<Buffer> {
    const bytes = Buffer.from(await this.content());
    this.size = bytes.length;
    return bytes;
  }

  attributes(): Attributes {
    return { ...this.common(), size: this.size, allocated: this.size, blockSize: PAGE };
  }
}
