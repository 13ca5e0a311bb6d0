import { encodeAttrOut, encodeStatxOut } from '../protocol/attributes.ts';
import { defineOperation } from '../state.ts';

export const getattr = defineOperation({
  kind: 'now',
  run(state, request) {
    const inode = state.inodes.get(request.nodeId);
    return encodeAttrOut(inode.attributes(), { entry: inode.validity, attributes: inode.validity });
  },
});

export const statx = defineOperation({
  kind: 'now',
  run(state, request) {
    const inode = state.inodes.get(request.nodeId);
    return encodeStatxOut(inode.attributes(), { entry: inode.validity, attributes: inode.validity });
  },
});
