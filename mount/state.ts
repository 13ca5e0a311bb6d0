import { BlockError } from '../src/block/errors.ts';
import { BlockFile } from './block-file.ts';
import type { Cancellable } from './export.ts';
import { HandleTable } from './handles.ts';
import type { Inode } from './inode.ts';
import { InodeTable } from './inode-table.ts';
import type { Passthrough } from './passthrough.ts';
import type { FileSystemUsage } from './protocol/attributes.ts';
import type { RequestView } from './protocol/request.ts';
import { Directory } from './tree.ts';

/**
 * Who caches what is read through the mount. `auto`: the kernel, but not for O_DIRECT opens, whose writes then go on in
 * parallel. `never`: nobody, for every open. `always`: the kernel, whatever the open says.
 */
export type PageCachePolicy = 'auto' | 'always' | 'never';

/** What operations work on: one per mount. */
export class MountState {
  readonly inodes: InodeTable;
  readonly handles = new HandleTable();
  readonly passthrough: Passthrough;
  readonly pageCache: PageCachePolicy;
  readonly usage: () => Promise<FileSystemUsage>;

  constructor(root: Inode, parts: Pick<MountState, 'passthrough' | 'pageCache' | 'usage'>) {
    this.inodes = new InodeTable(root);
    this.passthrough = parts.passthrough;
    this.pageCache = parts.pageCache;
    this.usage = parts.usage;
  }

  directory(request: RequestView): Directory {
    const inode = this.inodes.get(request.nodeId);
    if (inode instanceof Directory) return inode;
    throw new BlockError('ENOTDIR', `Cannot use inode "${inode.ino}" as a directory: it is a file`);
  }

  /** @param code what an operation answers that only disks have */
  disk(request: RequestView, code: 'EISDIR' | 'ENOTSUP' | 'EINVAL' = 'ENOTSUP'): BlockFile {
    const inode = this.inodes.get(request.nodeId);
    if (inode instanceof BlockFile) return inode;
    throw new BlockError(code, `Cannot do this with inode "${inode.ino}": it is no disk`);
  }
}

/** The body of a successful answer that has none. */
export const NO_BODY: Buffer = Buffer.alloc(0);

/**
 * One operation. `now` answers at once, `later` in its time (it must read the request before its first await),
 * `silent` has no answer. A thrown BlockError becomes the errno of the answer.
 */
export type Operation =
  | { readonly kind: 'now'; run(state: MountState, request: RequestView): Buffer }
  | {
      readonly kind: 'later';
      run(state: MountState, request: RequestView, owner: Cancellable): Promise<Buffer>;
    }
  | { readonly kind: 'silent'; run(state: MountState, request: RequestView): void };

export function defineOperation(operation: Operation): Operation {
  return operation;
}
