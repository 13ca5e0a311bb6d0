import { BlockFile } from '../block-file.ts';
import { ReleaseIn } from '../protocol/layout.ts';
import { defineOperation, NO_BODY } from '../state.ts';

/** The last user of an open file is gone. Nothing is flushed: fsync and unmount do that. */
export const release = defineOperation({
  kind: 'now',
  run(state, request) {
    const handle = state.handles.remove(request.u64(ReleaseIn.fh));
    if (handle?.inode instanceof BlockFile) state.passthrough.release(handle.inode);
    return NO_BODY;
  },
});

/** A close(2). Writes have reached the graph by then; their errors were their own answers. */
export const flush = defineOperation({ kind: 'now', run: () => NO_BODY });
