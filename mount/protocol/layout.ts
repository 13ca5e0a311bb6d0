/**
 * Where the fields of requests are: byte offsets from the first byte of the request, its header included.
 *
 *   0 length u32 | 4 opcode u32 | 8 unique u64 | 16 nodeid u64 | 24 uid | 28 gid | 32 pid | 36 extensions | 40 body
 */
export const IN_HEADER_SIZE = 40;
export const OUT_HEADER_SIZE = 16;

/** The header (and READ, WRITE) in 32-bit words from the first one: what the hot path reads without allocating. */
export const Word = {
  length: 0,
  opcode: 1,
  uniqueLow: 2,
  uniqueHigh: 3,
  nodeLow: 4,
  nodeHigh: 5,
  /** READ and WRITE */
  offsetLow: 12,
  offsetHigh: 13,
  size: 14,
  writeFlags: 15,
  /** Flags of the open file: O_DSYNC. */
  openFlags: 18,
} as const;

/** A reply's header in words from its first one; the body follows. */
export const OutWord = { length: 0, error: 1, uniqueLow: 2, uniqueHigh: 3, body: 4 } as const;

/** The payload of a WRITE request follows its header and fuse_write_in. */
export const WRITE_PAYLOAD = 80;

export const InitIn = { major: 40, minor: 44, maxReadahead: 48, flags: 52, flags2: 56 } as const;
export const ForgetIn = { lookups: 40 } as const;
export const BatchForgetIn = { count: 40, first: 48, nodeId: 0, lookups: 8, entrySize: 16 } as const;
export const SetattrIn = {
  valid: 40,
  fh: 48,
  size: 56,
  atime: 72,
  mtime: 80,
  ctime: 88,
  atimeNsec: 96,
  mtimeNsec: 100,
  ctimeNsec: 104,
  mode: 108,
  uid: 116,
  gid: 120,
} as const;
export const OpenIn = { flags: 40 } as const;
export const ReadIn = { fh: 40, offset: 48, size: 56 } as const;
export const ReleaseIn = { fh: 40 } as const;
export const FsyncIn = { fh: 40, flags: 48 } as const;
export const GetxattrIn = { size: 40, name: 48 } as const;
export const AccessIn = { mask: 40 } as const;
export const InterruptIn = { unique: 40 } as const;
export const FallocateIn = { fh: 40, offset: 48, length: 56, mode: 64 } as const;
export const LseekIn = { fh: 40, offset: 48, whence: 56 } as const;
export const LookupIn = { name: 40 } as const;
