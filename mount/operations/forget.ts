import { BatchForgetIn, ForgetIn } from '../protocol/layout.ts';
import { defineOperation } from '../state.ts';

/** The kernel drops an inode from its cache. */
export const forget = defineOperation({
  kind: 'silent',
  run(state, request) {
    state.inodes.forget(request.nodeId, request.u64(ForgetIn.lookups));
  },
});

export const batchForget = defineOperation({
  kind: 'silent',
  run(state, request) {
    const count = request.u32(BatchForgetIn.count);
    for (let index = 0; index < count; index += 1) {
      const at = BatchForgetIn.first + index * BatchForgetIn.entrySize;
      state.inodes.forget(request.u64(at + BatchForgetIn.nodeId), request.u64(at + BatchForgetIn.lookups));
    }
  },
});
