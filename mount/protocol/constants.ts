/** Numbers of the FUSE kernel protocol, version 7 (include/uapi/linux/fuse.h), as far as this server uses them. */

export const FUSE_MAJOR = 7;
/** Layouts are known up to this minor version; the lower of this and the kernel's is spoken. */
export const FUSE_MINOR = 45;
/** max_pages and the larger INIT layout (Linux 4.20). */
export const FUSE_OLDEST_MINOR = 28;

export const ROOT_NODE_ID = 1;
export const PAGE = 4096;
/** Largest payload of one READ or WRITE: max_pages (256) pages. */
export const MAX_PAYLOAD = 256 * PAGE;

export const Opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  getxattr: 22,
  listxattr: 23,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  access: 34,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  fallocate: 43,
  readdirplus: 44,
  lseek: 46,
  syncfs: 50,
  statx: 52,
} as const;

/** INIT flags, bits 0 to 31. */
export const InitFlag = {
  asyncRead: 2 ** 0,
  bigWrites: 2 ** 5,
  doReaddirplus: 2 ** 13,
  readdirplusAuto: 2 ** 14,
  asyncDio: 2 ** 15,
  parallelDirops: 2 ** 18,
  maxPages: 2 ** 22,
  /** The page cache keeps what it has when size or mtime change; this server says itself what is stale. */
  explicitInvalData: 2 ** 25,
  /** Spares a GETXATTR (security.capability) before every buffered write. */
  handleKillprivV2: 2 ** 28,
  initExt: 2 ** 30,
} as const;

/** INIT flags, bits 32 to 63, shifted down. */
export const InitFlag2 = {
  directIoAllowMmap: 2 ** 4,
  passthrough: 2 ** 5,
  noExportSupport: 2 ** 6,
} as const;

export const OpenReplyFlag = {
  directIo: 1,
  keepCache: 2,
  parallelDirectWrites: 64,
  passthrough: 128,
} as const;

/** `cache`: the kernel writes back what was written to a mapping. */
export const WriteRequestFlag = { cache: 1, killSuidgid: 4 } as const;

/** Which fields of a SETATTR request count. */
export const SetattrField = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  handle: 64,
  atimeNow: 128,
  mtimeNow: 256,
} as const;

export const FallocateMode = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;
export const SeekWhence = { data: 3, hole: 4 } as const;
export const NotifyCode = { invalInode: 2, invalEntry: 3 } as const;

export const OpenFlag = {
  accessMode: 3,
  readOnly: 0,
  direct: process.arch === 'arm64' ? 0o200000 : 0o40000,
} as const;
export const FileType = { directory: 0o040000, regular: 0o100000, mask: 0o170000 } as const;
