/**
 * Frees the memory behind a buffer now instead of at some garbage collection: decompression makes a buffer per cluster,
 * and a hundred megabytes of dead ones would pile up. Nobody may use the buffer, or another view of it, afterwards.
 * Buffers cut from a pool are left alone.
 */
export function freeMemory(bytes: Buffer): void {
  const { buffer } = bytes;
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength <= Buffer.poolSize || buffer.detached) return;
  buffer.transfer(0);
}
