import { promisify } from 'node:util';
import { inflate } from 'node:zlib';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import type { Packing } from './chunks.ts';

const inflateAsync = promisify(inflate);
/** An output chunk that is filled to its end makes zlib allocate another one for nothing. */
const SPARE = 64;

/** Unpacks a chunk of exactly `size` bytes, which it takes over; rejects for anything else. Not on this thread. */
export async function unpackChunk(
  service: UnpackService,
  kind: Packing,
  packed: Buffer,
  size: number,
): Promise<Buffer> {
  if (kind !== 'zlib') return service.unpack(packed, { packing: kind === 'lzma' ? 'xz' : kind, size });
  const plain = await inflateAsync(packed, { maxOutputLength: size, chunkSize: size + SPARE });
  if (plain.length !== size) throw new RangeError(`zlib: ${plain.length} bytes, wanted ${size}`);
  return plain;
}
