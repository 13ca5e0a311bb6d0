import { promisify } from 'node:util';
import { inflate } from 'node:zlib';
import { unpackBzip2 } from '../../../src/util/bzip2.ts';
import { unpackXz } from '../../../src/util/xz.ts';
import { unpackAdc } from './adc.ts';
import type { Packing } from './chunks.ts';
import { unpackLzfse } from './lzfse.ts';

const inflateAsync = promisify(inflate);

const DECODERS: Readonly<Record<Exclude<Packing, 'zlib'>, (packed: Buffer, size: number) => Buffer>> = {
  adc: unpackAdc,
  bzip2: unpackBzip2,
  lzfse: unpackLzfse,
  lzma: unpackXz,
};

/**
 * Unpacks a chunk of exactly `size` bytes; rejects for anything else. zlib runs on the thread pool; the others run here,
 * one chunk a turn, so that what else is due gets its turn between two of them.
 */
export async function unpackChunk(kind: Packing, packed: Buffer, size: number): Promise<Buffer> {
  if (kind === 'zlib') {
    const plain = await inflateAsync(packed, { maxOutputLength: size, chunkSize: size + 64 });
    if (plain.length !== size) throw new RangeError(`zlib: ${plain.length} bytes, wanted ${size}`);
    return plain;
  }
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
  return DECODERS[kind](packed, size);
}
