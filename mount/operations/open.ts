import { BlockError } from '../../src/block/errors.ts';
import { BlockFile } from '../block-file.ts';
import { putU64 } from '../protocol/attributes.ts';
import { OpenFlag, OpenReplyFlag } from '../protocol/constants.ts';
import { OpenIn } from '../protocol/layout.ts';
import type { MountState, PageCachePolicy } from '../state.ts';
import { defineOperation } from '../state.ts';
import { TextFile } from '../tree.ts';

const OPEN_OUT_SIZE = 16;

export const open = defineOperation({
  kind: 'later',
  async run(state, request) {
    const inode = state.inodes.get(request.nodeId);
    const flags = request.u32(OpenIn.flags);
    if (inode instanceof BlockFile) return openDisk(state, inode, flags);
    if (!(inode instanceof TextFile)) throw new BlockError('EISDIR', 'Cannot open: it is a directory');
    if (wantsToWrite(flags)) throw new BlockError('EROFS', 'Cannot open for writing: the text is generated');
    const fh = state.handles.add({ inode, text: await inode.open() });
    return encodeOpenOut(fh, OpenReplyFlag.directIo, 0);
  },
});

function openDisk(state: MountState, file: BlockFile, flags: number): Buffer {
  if (wantsToWrite(flags) && !file.export.options.writable) {
    throw new BlockError('EROFS', `Cannot open ${file.export.label} for writing: it is read-only`);
  }
  const fh = state.handles.add({ inode: file });
  const backingId = state.passthrough.open(file);
  if (backingId !== 0) return encodeOpenOut(fh, passthroughFlags(flags), backingId);
  const { uncached } = file;
  if (uncached) file.mayBeMapped = true;
  const reply = replyFlags(uncached ? 'never' : state.pageCache, flags);
  if (reply === OpenReplyFlag.keepCache) file.mayBeCached = true;
  return encodeOpenOut(fh, reply, 0);
}

/**
 * The kernel holds the inode's lock for every write that it passes through. Who writes with O_DIRECT wants many at once: those
 * come here, where they do not wait for each other. Both ways end in the page cache of the host file.
 */
function passthroughFlags(flags: number): number {
  const isDirectWriter = (flags & OpenFlag.direct) !== 0 && wantsToWrite(flags);
  const here = isDirectWriter ? OpenReplyFlag.directIo + OpenReplyFlag.parallelDirectWrites : 0;
  return OpenReplyFlag.passthrough + here;
}

const wantsToWrite = (flags: number): boolean => (flags & OpenFlag.accessMode) !== OpenFlag.readOnly;

function replyFlags(policy: PageCachePolicy, flags: number): number {
  const isDirect = (flags & OpenFlag.direct) !== 0;
  const bypass = policy === 'never' || (policy === 'auto' && isDirect);
  return bypass ? OpenReplyFlag.directIo + OpenReplyFlag.parallelDirectWrites : OpenReplyFlag.keepCache;
}

/** fuse_open_out, of OPENDIR too. */
export function encodeOpenOut(fh: number, flags: number, backingId: number): Buffer {
  const bytes = Buffer.alloc(OPEN_OUT_SIZE);
  putU64(bytes, 0, fh);
  bytes.writeUInt32LE(flags, 8);
  bytes.writeInt32LE(backingId, 12);
  return bytes;
}
