/**
 * zlib and Zstandard as Node has them inside, called directly. A call of node:zlib makes a stream and a context for each
 * block: for 64 KiB that takes longer than unpacking them. Here contexts are used again, and bytes go where they are wanted.
 *
 *     packed -> inflate, ZSTD_decompressDCtx -> room of exactly the size
 *
 * Neither keeps a window when a stream is unpacked in one go, so a context takes some 10 or 160 KiB.
 */
import { zstdFrameLength } from '../util/zstd-frame.ts';
import { addressOf, libc } from './libc.ts';

export type Zip = 'deflate' | 'zlib' | 'zstd';

/** z_stream, as zlib.h declares it, where pointers and long have 64 bits; zlib itself checks the size. */
const STREAM = { bytes: 112, nextIn: 0, bytesIn: 8, nextOut: 24, bytesOut: 32, dataType: 88 } as const;
/** zlib compares the first digit with its own. */
const ZLIB_VERSION = '1';
const FINISH = 4;
export const STREAM_END = 1;
export const BUFFER_ERROR = -5;
/** Window bits: the largest; negative for a stream without header and checksum. */
const WITH_HEADER = 15;

/** Sizes that a double does not hold come as bigint: Zstandard's errors. */
type Result = number | bigint;
type Callback = (error: Error | null, result: Result) => void;
interface NativeCall {
  (...args: (number | string)[]): Result;
  async(...args: [...number[], Callback]): void;
}

interface Calls {
  readonly inflateInit: NativeCall;
  readonly inflateReset: NativeCall;
  readonly inflate: NativeCall;
  readonly makeZstd: NativeCall;
  readonly zstd: NativeCall;
}

const declare = (text: string): NativeCall => libc.func(text) as unknown as NativeCall;

function loadCalls(): Calls | undefined {
  try {
    return {
      inflateInit: declare('int inflateInit2_(uintptr_t stream, int bits, const char *version, int size)'),
      inflateReset: declare('int inflateReset2(uintptr_t stream, int bits)'),
      inflate: declare('int inflate(uintptr_t stream, int flush)'),
      makeZstd: declare('uintptr_t ZSTD_createDCtx()'),
      zstd: declare(
        'size_t ZSTD_decompressDCtx(uintptr_t context, uintptr_t to, size_t room, uintptr_t from, size_t length)',
      ),
    };
  } catch {
    // A Node that keeps them to itself.
    return undefined;
  }
}

/** Unpacks what must fill `out` exactly; a RangeError for anything else. */
export class ZipLibrary {
  private readonly calls: Calls;
  private readonly inflaters: Inflater[] = [];
  private readonly zstds: number[] = [];
  /** Memory that calls under way use by address: koffi does not keep it from the garbage collector. */
  private readonly inUse = new Set<readonly Buffer[]>();

  constructor(calls: Calls) {
    this.calls = calls;
  }

  unpackNow(packed: Buffer, zip: Zip, out: Buffer): void {
    if (zip === 'zstd') this.zstdNow(packed, out);
    else this.inflateNow(packed, zip, out);
  }

  /** In the thread pool. Nobody may change, move or free the memory before it settles. */
  unpackInBackground(packed: Buffer, zip: Zip, out: Buffer): Promise<void> {
    return zip === 'zstd' ? this.zstdInBackground(packed, out) : this.inflateInBackground(packed, zip, out);
  }

  /** A context of zlib, to be given back when no call of it is under way. */
  takeInflater(): Inflater {
    return this.inflaters.pop() ?? new Inflater(this.calls);
  }

  giveInflater(inflater: Inflater): void {
    this.inflaters.push(inflater);
  }

  /** Goes on in the thread pool with what the context was given, which is `memory`; resolves to zlib's result. */
  async inflateOn(inflater: Inflater, flush: number, memory: readonly Buffer[]): Promise<number> {
    return Number(await this.background(this.calls.inflate, [inflater.address, flush], memory));
  }

  private inflateNow(packed: Buffer, zip: Zip, out: Buffer): void {
    const inflater = this.takeInflater();
    inflater.start(zip, packed, out);
    const result = this.calls.inflate(inflater.address, FINISH);
    this.giveInflater(inflater);
    inflater.check(Number(result), out.length);
  }

  private async inflateInBackground(packed: Buffer, zip: Zip, out: Buffer): Promise<void> {
    const inflater = this.takeInflater();
    try {
      inflater.start(zip, packed, out);
      inflater.check(await this.inflateOn(inflater, FINISH, [packed, out]), out.length);
    } finally {
      this.giveInflater(inflater);
    }
  }

  private zstdNow(packed: Buffer, out: Buffer): void {
    const context = this.zstds.pop() ?? Number(this.calls.makeZstd());
    try {
      for (const frames = new Frames(packed, out); frames.next();)
        frames.filled += produced(this.calls.zstd(context, ...frames.place()));
    } finally {
      this.zstds.push(context);
    }
  }

  private async zstdInBackground(packed: Buffer, out: Buffer): Promise<void> {
    const context = this.zstds.pop() ?? Number(this.calls.makeZstd());
    try {
      for (const frames = new Frames(packed, out); frames.next();) {
        const call = this.background(this.calls.zstd, [context, ...frames.place()], [packed, out]);
        frames.filled += produced(await call);
      }
    } finally {
      this.zstds.push(context);
    }
  }

  private background(call: NativeCall, args: number[], memory: readonly Buffer[]): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.inUse.add(memory);
      call.async(...args, (error, result) => {
        this.inUse.delete(memory);
        if (error === null) resolve(result);
        else reject(error);
      });
    });
  }
}

/** A context of zlib, for one call at a time. */
export class Inflater {
  readonly address: number;
  private readonly calls: Calls;
  private readonly stream = Buffer.alloc(STREAM.bytes);

  constructor(calls: Calls) {
    this.calls = calls;
    this.address = addressOf(this.stream);
    const result = calls.inflateInit(this.address, WITH_HEADER, ZLIB_VERSION, STREAM.bytes);
    if (result !== 0) throw new RangeError(`zlib can't be started: ${result}`);
  }

  start(zip: Zip, packed: Buffer, out: Buffer): void {
    this.calls.inflateReset(this.address, zip === 'zlib' ? WITH_HEADER : -WITH_HEADER);
    this.setInput(packed);
    this.setRoom(out);
  }

  setInput(packed: Buffer): void {
    this.stream.writeBigUInt64LE(BigInt(addressOf(packed)), STREAM.nextIn);
    this.stream.writeUInt32LE(packed.length, STREAM.bytesIn);
  }

  setRoom(out: Buffer): void {
    this.stream.writeBigUInt64LE(BigInt(addressOf(out)), STREAM.nextOut);
    this.stream.writeUInt32LE(out.length, STREAM.bytesOut);
  }

  /** Bytes of the input that were not taken yet. */
  get inputLeft(): number {
    return this.stream.readUInt32LE(STREAM.bytesIn);
  }

  get roomLeft(): number {
    return this.stream.readUInt32LE(STREAM.bytesOut);
  }

  /** As inflate() has it: unused bits of the last byte taken, 64 in the last block, 128 right behind a block. */
  get dataType(): number {
    return this.stream.readUInt32LE(STREAM.dataType);
  }

  check(result: number, size: number): void {
    const left = this.roomLeft;
    if (result === STREAM_END && left === 0) return;
    if (result === STREAM_END)
      throw new RangeError(`it decompresses to ${size - left} bytes, must be ${size}`);
    if (result === BUFFER_ERROR && left === 0)
      throw new RangeError(`it decompresses to more than ${size} bytes`);
    throw new RangeError(result === BUFFER_ERROR ? 'the stream ends too early' : 'the stream is damaged');
  }
}

/** Goes from frame to frame until the room is full; what is behind the last one is not looked at. */
class Frames {
  filled = 0;
  private readonly packed: Buffer;
  private readonly out: Buffer;
  private at = 0;
  private length = 0;

  constructor(packed: Buffer, out: Buffer) {
    this.packed = packed;
    this.out = out;
  }

  next(): boolean {
    const { packed, out } = this;
    if (this.filled === out.length) return false;
    this.at += this.length;
    this.length = zstdFrameLength(packed, this.at);
    if (this.length > 0) return true;
    throw new RangeError(`no whole Zstandard frame at byte ${this.at} of ${packed.length}`);
  }

  /** Arguments of the call: to, room, from, length. */
  place(): [number, number, number, number] {
    const { packed, out, at, length, filled } = this;
    return [addressOf(out) + filled, out.length - filled, addressOf(packed) + at, length];
  }
}

function produced(result: Result): number {
  if (typeof result === 'number') return result;
  throw new RangeError('the Zstandard frame is damaged or unpacks to more than it should');
}

const calls = loadCalls();

/** Undefined where Node does not show them. */
export const zipLibrary = calls === undefined ? undefined : new ZipLibrary(calls);

export const isZip = (packing: string): packing is Zip =>
  packing === 'deflate' || packing === 'zlib' || packing === 'zstd';
