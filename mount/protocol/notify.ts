import { putU64 } from './attributes.ts';
import { NotifyCode } from './constants.ts';
import { OUT_HEADER_SIZE } from './layout.ts';

const INVAL_INODE_SIZE = 24;

/**
 * "Forget the attributes and what is cached of [offset, offset + length)"; length 0: to the end. As a whole message.
 * Send it from the thread pool: the kernel may wait for pages that this server has to fill first.
 */
export function encodeInvalidateInode(ino: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(OUT_HEADER_SIZE + INVAL_INODE_SIZE);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeInt32LE(NotifyCode.invalInode, 4);
  putU64(bytes, OUT_HEADER_SIZE, ino);
  putU64(bytes, OUT_HEADER_SIZE + 8, offset);
  putU64(bytes, OUT_HEADER_SIZE + 16, length);
  return bytes;
}
