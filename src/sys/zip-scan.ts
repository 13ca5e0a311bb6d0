/**
 * Contract: InflateScan, by zlib in the thread pool: it stops where a block ends when it is asked to.
 *
 *     | 32 KiB before | unpacked by this step ...      | end of the memory: the last 32 KiB move to its start
 */
import { crc32 } from 'node:zlib';
import type { InflateScan, ScanPoint, ScanStep } from '../util/unpack-service.ts';
import { BUFFER_ERROR, STREAM_END } from './zip-library.ts';
import type { Inflater, ZipLibrary } from './zip-library.ts';

const WINDOW = 32 * 1024;
const ROOM = 1024 * 1024;
const OK = 0;
/** Ways to call inflate(): as far as there is room; to the end of the block at most. */
const NO_FLUSH = 0;
const BLOCK = 5;
const BLOCK_ENDED = 128;
const IN_LAST_BLOCK = 64;

export class ZipScan implements InflateScan {
  crc = 0;
  plain = 0;
  packedLength = 0;
  private readonly library: ZipLibrary;
  private readonly inflater: Inflater;
  private readonly memory = Buffer.allocUnsafeSlow(WINDOW + ROOM);
  private at = 0;
  /** Where the stream may be entered last, in bytes of what it unpacks to. */
  private last = 0;

  constructor(library: ZipLibrary) {
    this.library = library;
    this.inflater = library.takeInflater();
    this.inflater.start('deflate', this.memory.subarray(0, 0), this.memory);
  }

  async step(input: Buffer, final: boolean, spacing: number): Promise<ScanStep> {
    const { inflater } = this;
    const points: ScanPoint[] = [];
    const before = this.packedLength;
    inflater.setInput(input);
    for (;;) {
      // Told to stop behind a block, inflate() would stay behind the last one for ever.
      const isDue = this.plain - this.last >= spacing && !this.isBehind(true);
      const most = isDue || this.isBehind(true) ? ROOM : spacing - (this.plain - this.last);
      const result = await this.inflate(input, isDue ? BLOCK : NO_FLUSH, most);
      this.packedLength = before + input.length - inflater.inputLeft;
      if (result === STREAM_END) return { points, ended: true };
      if (result !== OK && result !== BUFFER_ERROR) throw new RangeError('deflate: the stream is damaged');
      if (isDue && this.isBehind(false)) points.push(this.point());
      if (inflater.inputLeft > 0 || inflater.roomLeft === 0 || this.isBehind(true)) continue;
      if (final) throw new RangeError('deflate: the stream ends too early');
      return { points, ended: false };
    }
  }

  close(): void {
    this.library.giveInflater(this.inflater);
  }

  /** Whether the last or another block has just ended. */
  private isBehind(last: boolean): boolean {
    const { dataType } = this.inflater;
    return (dataType & BLOCK_ENDED) !== 0 && ((dataType & IN_LAST_BLOCK) !== 0) === last;
  }

  /** @param flush how to call inflate() @param most bytes to unpack */
  private async inflate(input: Buffer, flush: number, most: number): Promise<number> {
    const { inflater, memory } = this;
    if (this.at === memory.length) {
      memory.copyWithin(0, this.at - WINDOW);
      this.at = WINDOW;
    }
    const room = memory.subarray(this.at, Math.min(memory.length, this.at + most));
    inflater.setRoom(room);
    const result = await this.library.inflateOn(inflater, flush, [input, memory]);
    const length = room.length - inflater.roomLeft;
    this.crc = crc32(room.subarray(0, length), this.crc);
    this.plain += length;
    this.at += length;
    return result;
  }

  private point(): ScanPoint {
    const { at, plain, memory, inflater } = this;
    this.last = plain;
    const bit = this.packedLength * 8 - (inflater.dataType & 7);
    return { bit, plain, window: Buffer.from(memory.subarray(Math.max(0, at - WINDOW), at)) };
  }
}
