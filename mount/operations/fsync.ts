import { BlockFile } from '../block-file.ts';
import { defineOperation, NO_BODY } from '../state.ts';

export const fsync = defineOperation({
  kind: 'later',
  async run(state, request, owner) {
    const inode = state.inodes.get(request.nodeId);
    if (inode instanceof BlockFile) await inode.export.run(owner, (root) => root.flush());
    return NO_BODY;
  },
});

export const fsyncdir = defineOperation({ kind: 'now', run: () => NO_BODY });

/** All disks of the mount. */
export const syncfs = defineOperation({
  kind: 'later',
  async run(state, _request, owner) {
    for (const inode of state.inodes.all()) {
      if (inode instanceof BlockFile) await inode.export.run(owner, (root) => root.flush());
    }
    return NO_BODY;
  },
});
