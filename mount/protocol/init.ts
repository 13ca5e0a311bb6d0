import { BlockError } from '../../src/block/errors.ts';
import {
  FUSE_MAJOR,
  FUSE_MINOR,
  FUSE_OLDEST_MINOR,
  InitFlag,
  InitFlag2,
  MAX_PAYLOAD,
  PAGE,
} from './constants.ts';
import { InitIn } from './layout.ts';
import type { RequestView } from './request.ts';

const INIT_OUT_SIZE = 64;
const MAX_BACKGROUND = 128;
const CONGESTION = 96;

const WANTED =
  InitFlag.asyncRead +
  InitFlag.bigWrites +
  InitFlag.doReaddirplus +
  InitFlag.readdirplusAuto +
  InitFlag.asyncDio +
  InitFlag.parallelDirops +
  InitFlag.maxPages +
  InitFlag.explicitInvalData +
  InitFlag.handleKillprivV2 +
  InitFlag.initExt;

/** What was agreed on. */
export interface Agreement {
  readonly minor: number;
  readonly passthrough: boolean;
  readonly directIoMmap: boolean;
  /** Body of the INIT reply. */
  readonly reply: Buffer;
}

/** Answers INIT: the lower minor version, and of the wanted features those that the kernel has. */
export function negotiate(request: RequestView, wantPassthrough: boolean): Agreement {
  const major = request.u32(InitIn.major);
  const offered = request.u32(InitIn.minor);
  if (major !== FUSE_MAJOR || offered < FUSE_OLDEST_MINOR) {
    const text = `Cannot speak FUSE with this kernel: its protocol is ${major}.${offered}`;
    throw new BlockError(
      'EPROTO',
      `${text}, ${FUSE_MAJOR}.${FUSE_OLDEST_MINOR} or a later minor version is wanted`,
    );
  }
  const minor = Math.min(offered, FUSE_MINOR);
  const flags = common(request.u32(InitIn.flags), WANTED);
  const extended = common(flags, InitFlag.initExt) !== 0;
  const wanted2 =
    InitFlag2.directIoAllowMmap + InitFlag2.noExportSupport + (wantPassthrough ? InitFlag2.passthrough : 0);
  const flags2 = extended ? common(request.u32(InitIn.flags2), wanted2) : 0;
  const passthrough = common(flags2, InitFlag2.passthrough) !== 0;
  const reply = encode({ minor, flags, flags2, readahead: request.u32(InitIn.maxReadahead), passthrough });
  return { minor, passthrough, directIoMmap: common(flags2, InitFlag2.directIoAllowMmap) !== 0, reply };
}

interface InitReply {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  readonly readahead: number;
  readonly passthrough: boolean;
}

function encode(init: InitReply): Buffer {
  const bytes = Buffer.alloc(INIT_OUT_SIZE);
  bytes.writeUInt32LE(FUSE_MAJOR, 0);
  bytes.writeUInt32LE(init.minor, 4);
  bytes.writeUInt32LE(init.readahead, 8);
  bytes.writeUInt32LE(init.flags, 12);
  bytes.writeUInt16LE(MAX_BACKGROUND, 16);
  bytes.writeUInt16LE(CONGESTION, 18);
  bytes.writeUInt32LE(MAX_PAYLOAD, 20);
  bytes.writeUInt32LE(1, 24);
  bytes.writeUInt16LE(MAX_PAYLOAD / PAGE, 28);
  bytes.writeUInt32LE(init.flags2, 32);
  bytes.writeUInt32LE(init.passthrough ? 1 : 0, 36);
  return bytes;
}

/** Bits that both sets have, unsigned. */
const common = (one: number, other: number): number => (one & other) >>> 0;
