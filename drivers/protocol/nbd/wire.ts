/** Numbers of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd); all integers are big-endian. */
import type { ErrnoCode } from '../../../src/block/errors.ts';

export const MAGIC = {
  /** "NBDMAGIC" and "IHAVEOPT". */
  server: 0x4e42444d41474943n,
  option: 0x49484156454f5054n,
  optionReply: 0x0003e889045565a9n,
  request: 0x25609513,
  simple: 0x67446698,
  structured: 0x668e33ef,
} as const;

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const Option = { abort: 2, info: 6, go: 7, structuredReply: 8, setMetaContext: 10 } as const;

export const OptionReply = { ack: 1, info: 3, metaContext: 4 } as const;
export const OPTION_ERROR = 2 ** 31;
/** By number less OPTION_ERROR. */
export const OPTION_ERRORS: Readonly<Record<number, string>> = {
  1: 'the server does not know the option',
  2: 'the server forbids it',
  3: 'the request is invalid',
  4: 'the server was built without it',
  5: 'the server wants TLS, which is not supported',
  6: 'there is no export of that name',
  7: 'the server is shutting down',
  8: 'the server wants its block size to be kept',
  9: 'the request is too large',
};

export const Info = { export: 0, blockSize: 3 } as const;

export const ExportFlag = {
  hasFlags: 1,
  readOnly: 2,
  flush: 4,
  fua: 8,
  trim: 32,
  writeZeroes: 64,
  canMultiConn: 256,
  fastZero: 2048,
} as const;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CommandFlag = { fua: 1, noHole: 2, fastZero: 16 } as const;

export const Chunk = {
  none: 0,
  data: 1,
  hole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;
export const CHUNK_DONE = 1;
export const CHUNK_ERROR = 0x8000;

export const StatusFlag = { hole: 1, zero: 2 } as const;

export const REQUEST_LENGTH = 28;

const ERRORS: Readonly<Record<number, ErrnoCode>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
};

/** Errors that the protocol does not know count as EINVAL there; here they are what they most likely mean. */
export const errorCode = (value: number): ErrnoCode => ERRORS[value] ?? 'EIO';
