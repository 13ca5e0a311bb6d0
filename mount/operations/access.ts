import { BlockError } from '../../src/block/errors.ts';
import { BlockFile } from '../block-file.ts';
import { AccessIn } from '../protocol/layout.ts';
import { defineOperation, NO_BODY } from '../state.ts';

const WRITE = 2;

/** The kernel checks mode bits itself (default_permissions); a read-only disk is refused here. */
export const access = defineOperation({
  kind: 'now',
  run(state, request) {
    const inode = state.inodes.get(request.nodeId);
    const wantsToWrite = (request.u32(AccessIn.mask) & WRITE) !== 0;
    if (wantsToWrite && inode instanceof BlockFile && !inode.export.options.writable) {
      throw new BlockError('EROFS', `Cannot write ${inode.export.label}: it is read-only`);
    }
    return NO_BODY;
  },
});
