import { ReleaseIn } from '../protocol/layout.ts';
import { defineOperation, NO_BODY } from '../state.ts';
import { encodeOpenOut } from './open.ts';

/** Takes the entries as they are now: a listing in parts stays consistent. */
export const opendir = defineOperation({
  kind: 'later',
  async run(state, request) {
    const directory = state.directory(request);
    const entries = await directory.list();
    const items = [{ name: '.', inode: directory }, { name: '..', inode: directory.parent }, ...entries];
    for (const item of items) state.inodes.number(item.inode);
    return encodeOpenOut(state.handles.add({ inode: directory, items }), 0, 0);
  },
});

export const releasedir = defineOperation({
  kind: 'now',
  run(state, request) {
    state.handles.remove(request.u64(ReleaseIn.fh));
    return NO_BODY;
  },
});
