import { BlockError } from '../../src/block/errors.ts';
import { GetxattrIn } from '../protocol/layout.ts';
import { defineOperation } from '../state.ts';

/** What a disk is: `user.blockfuse.node`, `.driver`, `.format`; what a file beside it shows: `.snapshot`, `.bitmap`. */
export const getxattr = defineOperation({
  kind: 'now',
  run(state, request) {
    const name = request.name(GetxattrIn.name);
    const value = state.inodes.get(request.nodeId).properties.get(name);
    if (value === undefined)
      throw new BlockError('ENODATA', `Cannot read attribute "${name}": there is none`);
    return sized(Buffer.from(value), request.u32(GetxattrIn.size));
  },
});

export const listxattr = defineOperation({
  kind: 'now',
  run(state, request) {
    const names = [...state.inodes.get(request.nodeId).properties.keys()];
    return sized(Buffer.from(names.map((name) => `${name}\0`).join('')), request.u32(GetxattrIn.size));
  },
});

/** The value, or its size where the caller asks for that (0). */
function sized(value: Buffer, room: number): Buffer {
  if (room === 0) {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(value.length, 0);
    return bytes;
  }
  if (value.length <= room) return value;
  throw new BlockError(
    'ERANGE',
    `Cannot read attribute: it has ${value.length} bytes, the caller has room for ${room}`,
  );
}
