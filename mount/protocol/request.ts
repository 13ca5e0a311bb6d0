import { BlockError } from '../../src/block/errors.ts';
import { IN_HEADER_SIZE } from './layout.ts';

const WORD = 2 ** 32;

/**
 * The request that is being decoded: a view that one session reuses. Fields are named by their byte offset
 * (layout.ts). Read all that is needed before the first await: the bytes are overwritten then.
 */
export class RequestView {
  private bytes: Buffer = Buffer.alloc(0);
  private start = 0;
  private end = 0;

  /** Points at bytes[start, start + length). */
  set(bytes: Buffer, start: number, length: number): void {
    this.bytes = bytes;
    this.start = start;
    this.end = start + length;
  }

  get opcode(): number {
    return this.u32(4);
  }

  get unique(): number {
    return this.u64(8);
  }

  get nodeId(): number {
    return this.u64(16);
  }

  get uid(): number {
    return this.u32(24);
  }

  get gid(): number {
    return this.u32(28);
  }

  u32(field: number): number {
    this.check(field, 4);
    return this.bytes.readUInt32LE(this.start + field);
  }

  /** A count, a handle, an offset: EOVERFLOW above 2^53 - 1. */
  u64(field: number): number {
    this.check(field, 8);
    const at = this.start + field;
    const value = this.bytes.readUInt32LE(at + 4) * WORD + this.bytes.readUInt32LE(at);
    if (Number.isSafeInteger(value)) return value;
    throw new BlockError('EOVERFLOW', `Cannot decode FUSE request "${this.opcode}": ${value} is beyond 2^53`);
  }

  /** Seconds since 1970, which may be before. */
  seconds(field: number): number {
    this.check(field, 8);
    return Number(this.bytes.readBigInt64LE(this.start + field));
  }

  /** The NUL-terminated name at a field. */
  name(field: number): string {
    this.check(field, 1);
    const from = this.start + field;
    const nul = this.bytes.indexOf(0, from);
    return this.bytes.toString('utf8', from, nul < 0 || nul > this.end ? this.end : nul);
  }

  private check(field: number, width: number): void {
    if (this.start + field + width <= this.end) return;
    const length = this.end - this.start;
    const text = `Cannot decode FUSE request: it has ${length} bytes, at least ${field + width} of them are wanted`;
    throw new BlockError('EINVAL', length >= IN_HEADER_SIZE ? text : `${text} (header cut off)`);
  }
}
