import { unpackAdc } from './adc.ts';
import { unpackBzip2 } from './bzip2.ts';
import { unpackLzfse } from './lzfse/lzfse.ts';
import type { Packing, UnpackJob } from './unpack-service.ts';
import { unpackDeflate, unpackZlib, unpackZstd } from './unzip.ts';
import { unpackWholeXzBlock, unpackXz } from './xz.ts';

const DECODERS: Readonly<Record<Packing, (packed: Buffer, size: number, check: number) => Buffer>> = {
  adc: unpackAdc,
  bzip2: unpackBzip2,
  deflate: unpackDeflate,
  lzfse: unpackLzfse,
  xz: unpackXz,
  'xz-block': unpackWholeXzBlock,
  zlib: unpackZlib,
  zstd: unpackZstd,
};

/** Throws a RangeError unless `packed` unpacks to exactly the size. */
export function decode(packed: Buffer, { packing, size, check = 0 }: UnpackJob): Buffer {
  return DECODERS[packing](packed, size, check);
}
