/**
 * Unpacking takes its time: whoever needs it is handed a service, which may do it on other threads. Node has zlib and zstd
 * on libuv's thread pool as well, but a call of it costs as much as a block of 64 KiB: what is larger may go there.
 */
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
   * The same, handed to `take`, for no longer than that call lasts: where many small blocks are unpacked no memory is made
   * for each. `packed` must stay as it is until then; it is taken over when it is memory of its own.
   */
  unpackTo(packed: Buffer, job: UnpackJob, take: (plain: Buffer) => void): Promise<void>;
  /** Unpacks a block of an xz file from its start on, in steps. */
  openXzBlock(setup: XzBlockSetup): XzBlockSteps;
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

  async unpackTo(packed, job, take) {
    take(await unpackHere.unpack(packed, job));
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
};
