import { addressOf } from '../src/sys/libc.ts';
import { PAGE } from './protocol/constants.ts';
import { OUT_HEADER_SIZE, WRITE_PAYLOAD } from './protocol/layout.ts';

/**
 * Memory for one request or reply, placed so that payloads are page-aligned: a WRITE's payload starts 80 bytes into the
 * request, a READ's answer 16 bytes into the reply, so the message starts that much before the aligned data.
 *
 *   ... |80 bytes: request header | 16 of them: reply header | data (aligned) ... capacity |
 *
 * One buffer serves both at once: by the time a reply is written its request has been decoded.
 */
export class IoBuffer {
  readonly bytes: Buffer;
  /** The same memory in host-endian 32-bit words. */
  readonly words: Uint32Array;
  /** Index in `bytes` of the data. */
  readonly data: number;
  /** Address of the data. */
  readonly address: number;
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.bytes = Buffer.allocUnsafeSlow(capacity + 2 * PAGE);
    this.words = new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length / 4);
    const base = addressOf(this.bytes);
    const first = base + WRITE_PAYLOAD;
    this.address = first + ((PAGE - (first % PAGE)) % PAGE);
    this.data = this.address - base;
  }

  /** Index in `words` of a request read into this buffer. */
  get requestWord(): number {
    return (this.data - WRITE_PAYLOAD) / 4;
  }

  /** Index in `words` of the reply's header. */
  get replyWord(): number {
    return (this.data - OUT_HEADER_SIZE) / 4;
  }
}

const CLASSES = [4096, 16_384, 65_536, 262_144, 1_048_576];
/** What is kept for later, at most, per size class. */
const KEPT_BYTES = 4 * 1_048_576;

/** Buffers for requests that take longer. Counts what is out, so that the session can stop reading in time. */
export class BufferPool {
  private readonly free: IoBuffer[][] = CLASSES.map(() => []);
  /** Bytes handed out and not given back. */
  bytesInUse = 0;

  /** At least `capacity` bytes, which is at most the largest class (1 MiB). */
  take(capacity: number): IoBuffer {
    const index = classOf(capacity);
    const size = CLASSES[index] ?? capacity;
    this.bytesInUse += size;
    return this.free[index]?.pop() ?? new IoBuffer(size);
  }

  give(buffer: IoBuffer): void {
    this.bytesInUse -= buffer.capacity;
    const list = this.free[classOf(buffer.capacity)];
    if (list !== undefined && list.length * buffer.capacity < KEPT_BYTES) list.push(buffer);
  }
}

function classOf(capacity: number): number {
  const index = CLASSES.findIndex((size) => size >= capacity);
  return index < 0 ? CLASSES.length : index;
}
