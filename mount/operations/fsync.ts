import { BlockFile } from '../block-file.ts';
import type { Cancellable } from '../export.ts';
import { defineOperation, NO_BODY } from '../state.ts';

export const fsync = defineOperation({
  kind: 'later',
  async run(state, request, owner) {
    const inode = state.inodes.get(request.nodeId);
    if (inode instanceof BlockFile) await flushDisk(inode, owner);
    return NO_BODY;
  },
});

export const fsyncdir = defineOperation({ kind: 'now', run: () => NO_BODY });

/** All disks of the mount. */
export const syncfs = defineOperation({
  kind: 'later',
  async run(state, _request, owner) {
    for (const inode of state.inodes.all()) {
      if (inode instanceof BlockFile) await flushDisk(inode, owner);
    }
    return NO_BODY;
  },
});

/** All that was acknowledged is on stable storage when this resolves. */
export async function flushDisk({ export: target }: BlockFile, owner: Cancellable): Promise<void> {
  await target.run(owner, (root) => root.flush(), 'flush');
  target.counters.flushes += 1;
}
