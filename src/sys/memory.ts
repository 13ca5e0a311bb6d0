/** Where the bytes of a Buffer are, as a plain number, and Buffers at aligned addresses. */
import koffi from 'koffi';

/**
 * One entry is enough: a busy mount uses the same few buffers again and again, most often the same one.
 * An ArrayBuffer never moves while it is alive, and the entry keeps it alive.
 */
let lastBuffer: ArrayBufferLike | undefined;
let lastBase = 0;

/** The address of `bytes[at]`. The caller keeps `bytes` alive while a system call uses it, and checks the bounds. */
export function addressIn(bytes: Buffer, at: number): number {
  const { buffer } = bytes;
  if (buffer !== lastBuffer) {
    lastBase = Number(koffi.address(bytes)) - bytes.byteOffset;
    lastBuffer = buffer;
  }
  return lastBase + bytes.byteOffset + at;
}

/** Uninitialised memory whose address is a multiple of `alignment`, for O_DIRECT. */
export function allocateAligned(length: number, alignment: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length + alignment);
  const excess = addressIn(bytes, 0) % alignment;
  const start = excess === 0 ? 0 : alignment - excess;
  return bytes.subarray(start, start + length);
}
