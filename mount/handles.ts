import { BlockError } from '../src/block/errors.ts';
import type { Inode } from './inode.ts';
import type { DirectoryItem } from './tree.ts';

/** What an open file or directory remembers beside its inode. */
export interface OpenHandle {
  readonly inode: Inode;
  /** The text as it was when it was opened. */
  readonly text?: Buffer;
  /** The entries as they were when it was opened, `.` and `..` first. */
  readonly items?: readonly DirectoryItem[];
}

/** Open files by the number that the kernel sends back (`fh`). */
export class HandleTable {
  private readonly handles = new Map<number, OpenHandle>();
  private next = 1;

  add(handle: OpenHandle): number {
    const fh = this.next++;
    this.handles.set(fh, handle);
    return fh;
  }

  get(fh: number): OpenHandle {
    const handle = this.handles.get(fh);
    if (handle === undefined) throw new BlockError('EBADF', `Cannot use file handle "${fh}": it is not open`);
    return handle;
  }

  remove(fh: number): OpenHandle | undefined {
    const handle = this.handles.get(fh);
    this.handles.delete(fh);
    return handle;
  }
}
