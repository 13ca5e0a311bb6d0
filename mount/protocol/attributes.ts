/** fuse_attr, fuse_entry_out, fuse_statx and fuse_kstatfs, written into the bytes of a reply. */

export const ATTR_SIZE = 88;
export const ATTR_OUT_SIZE = 104;
export const ENTRY_OUT_SIZE = 128;
export const STATX_OUT_SIZE = 288;
export const STATFS_OUT_SIZE = 80;

/** A point in time; seconds since 1970 and nanoseconds. */
export interface TimeSpec {
  readonly sec: number;
  readonly nsec: number;
}

export interface Attributes {
  /** By which the kernel asks for it. */
  readonly nodeId: number;
  /** What stat shows. */
  readonly ino: number;
  /** Bytes. */
  readonly size: number;
  /** Bytes that are allocated; shown in units of 512. */
  readonly allocated: number;
  readonly atime: TimeSpec;
  readonly mtime: TimeSpec;
  readonly ctime: TimeSpec;
  /** File type and permission bits. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly blockSize: number;
}

/** How long, in seconds, the kernel may believe a name and the attributes. */
export interface Validity {
  readonly entry: number;
  readonly attributes: number;
}

export interface FileSystemUsage {
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  readonly blockSize: number;
  readonly nameLength: number;
  readonly fragmentSize: number;
}

const BLOCK = 512;
/** STATX_BASIC_STATS: everything but the time of birth. */
const STATX_BASIC = 0x7ff;

export function putU64(bytes: Buffer, at: number, value: number): void {
  bytes.writeBigUInt64LE(BigInt(value), at);
}

export function putAttributes(bytes: Buffer, at: number, attributes: Attributes): void {
  putU64(bytes, at, attributes.ino);
  putU64(bytes, at + 8, attributes.size);
  putU64(bytes, at + 16, blocksOf(attributes));
  bytes.writeBigInt64LE(BigInt(attributes.atime.sec), at + 24);
  bytes.writeBigInt64LE(BigInt(attributes.mtime.sec), at + 32);
  bytes.writeBigInt64LE(BigInt(attributes.ctime.sec), at + 40);
  bytes.writeUInt32LE(attributes.atime.nsec, at + 48);
  bytes.writeUInt32LE(attributes.mtime.nsec, at + 52);
  bytes.writeUInt32LE(attributes.ctime.nsec, at + 56);
  bytes.writeUInt32LE(attributes.mode, at + 60);
  bytes.writeUInt32LE(attributes.nlink, at + 64);
  bytes.writeUInt32LE(attributes.uid, at + 68);
  bytes.writeUInt32LE(attributes.gid, at + 72);
  bytes.writeUInt32LE(attributes.blockSize, at + 80);
}

/** fuse_attr_out: answer of GETATTR and SETATTR. */
export function encodeAttrOut(attributes: Attributes, validity: Validity): Buffer {
  const bytes = Buffer.alloc(ATTR_OUT_SIZE);
  putU64(bytes, 0, validity.attributes);
  putAttributes(bytes, 16, attributes);
  return bytes;
}

/** fuse_entry_out: answer of LOOKUP, and the head of every READDIRPLUS entry. */
export function putEntryOut(bytes: Buffer, at: number, attributes: Attributes, validity: Validity): void {
  putU64(bytes, at, attributes.nodeId);
  putU64(bytes, at + 16, validity.entry);
  putU64(bytes, at + 24, validity.attributes);
  putAttributes(bytes, at + 40, attributes);
}

/** fuse_statx_out. */
export function encodeStatxOut(attributes: Attributes, validity: Validity): Buffer {
  const bytes = Buffer.alloc(STATX_OUT_SIZE);
  putU64(bytes, 0, validity.attributes);
  const at = 32;
  bytes.writeUInt32LE(STATX_BASIC, at);
  bytes.writeUInt32LE(attributes.blockSize, at + 4);
  bytes.writeUInt32LE(attributes.nlink, at + 16);
  bytes.writeUInt32LE(attributes.uid, at + 20);
  bytes.writeUInt32LE(attributes.gid, at + 24);
  bytes.writeUInt16LE(attributes.mode, at + 28);
  putU64(bytes, at + 32, attributes.ino);
  putU64(bytes, at + 40, attributes.size);
  putU64(bytes, at + 48, blocksOf(attributes));
  putStatxTime(bytes, at + 64, attributes.atime);
  putStatxTime(bytes, at + 96, attributes.ctime);
  putStatxTime(bytes, at + 112, attributes.mtime);
  return bytes;
}

export function encodeStatfsOut(usage: FileSystemUsage): Buffer {
  const bytes = Buffer.alloc(STATFS_OUT_SIZE);
  putU64(bytes, 0, usage.blocks);
  putU64(bytes, 8, usage.freeBlocks);
  putU64(bytes, 16, usage.availableBlocks);
  putU64(bytes, 24, usage.files);
  putU64(bytes, 32, usage.freeFiles);
  bytes.writeUInt32LE(usage.blockSize, 40);
  bytes.writeUInt32LE(usage.nameLength, 44);
  bytes.writeUInt32LE(usage.fragmentSize, 48);
  return bytes;
}

const blocksOf = (attributes: Attributes): number => Math.ceil(attributes.allocated / BLOCK);

function putStatxTime(bytes: Buffer, at: number, time: TimeSpec): void {
  bytes.writeBigInt64LE(BigInt(time.sec), at);
  bytes.writeUInt32LE(time.nsec, at + 8);
}
