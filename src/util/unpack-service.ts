/** Unpacking takes its time: whoever needs it is handed a service, which may do it on other threads. */
import { turn } from './turn.ts';

export type Packing = 'adc' | 'bzip2' | 'deflate' | 'lzfse' | 'xz' | 'xz-block' | 'zlib' | 'zstd';

export interface UnpackJob {
  readonly packing: Packing;
  /** Bytes that it must unpack to. */
  readonly size: number;
  /** For a block of an xz file: the kind of its checksum. */
  readonly check?: number;
}

export interface UnpackService {
  /**
   * Rejects for anything that does not unpack to exactly the size. Takes `packed` over: nobody may use it, or another
   * view of the memory behind it, afterwards.
   */
  unpack(packed: Buffer, job: UnpackJob): Promise<Buffer>;
  /**
   * The same, into `out`, which has room for exactly the size: nobody may look at it, move it or free it before this settles,
   * and `packed` must stay as it is until then; it is taken over when it is memory of its own.
   */
  unpackInto(packed: Buffer, job: UnpackJob, out: Buffer): Promise<void>;
  /** Unpacks a block of an xz file from its start on, in steps. */
  openXzBlock(setup: XzBlockSetup): XzBlockSteps;
  /** Goes through a deflate stream (RFC 1951) from its start on, to learn where it may be entered. */
  openInflateScan(): Promise<InflateScan>;
}

/** A place of a deflate stream where unpacking may begin, given the 32 KiB before it (fewer near the start). */
export interface ScanPoint {
  /** Bits of the stream, bytes of what it unpacks to. */
  readonly bit: number;
  readonly plain: number;
  readonly window: Buffer;
}

export interface ScanStep {
  readonly points: readonly ScanPoint[];
  readonly ended: boolean;
}

export interface InflateScan {
  /** CRC-32 and count of all bytes unpacked so far. */
  readonly crc: number;
  readonly plain: number;
  /** Bytes of the stream, the last one counted whole. Only when it ended. */
  readonly packedLength: number;
  /**
   * Goes on with the bytes behind the last ones. One step at a time. Rejects with a RangeError where the stream is damaged.
   * @param final no bytes follow these
   * @param spacing points have at least so many bytes between them
   */
  step(input: Buffer, final: boolean, spacing: number): Promise<ScanStep>;
  /** No step may be under way. */
  close(): void;
}

export interface XzBlockSetup {
  /** Bytes that the block must unpack to. */
  readonly size: number;
  readonly check: number;
  /** Blocks that want a larger dictionary are refused. */
  readonly dictionaryMax: number;
}

export interface XzStep {
  readonly plain: Buffer;
  /** Bytes of the input that are done with; the rest must come again. */
  readonly used: number;
  /** The block is whole and its checksum right. */
  readonly ended: boolean;
}

/** What was unpacked so far is lost with the thread that did it; it may be started over. */
export class UnpackerLost extends Error {}

export interface XzBlockSteps {
  /** Goes on with the bytes behind those used. Takes them over. One step at a time. Rejects with UnpackerLost as well. */
  step(input: Buffer): Promise<XzStep>;
  close(): void;
}

/** Unpacks on this thread, one job a turn. */
export const unpackHere: UnpackService = {
  async unpack(packed, job) {
    const { decode } = await import('./unpack-decoders.ts');
    await turn();
    return decode(packed, job);
  },

  async unpackInto(packed, job, out) {
    (await unpackHere.unpack(packed, job)).copy(out);
  },

  openXzBlock(setup) {
    const starting = import('./xz-block.ts').then(({ XzBlockDecoder }) => new XzBlockDecoder(setup));
    return {
      async step(input) {
        const decoder = await starting;
        await turn();
        return decoder.step(input);
      },
      close() {},
    };
  },

  async openInflateScan() {
    const { InflateScanner } = await import('./inflate-scan.ts');
    return new InflateScanner();
  },
};
