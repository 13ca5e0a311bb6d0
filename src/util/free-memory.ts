/**
 * Frees the memory behind a buffer now instead of at some garbage collection, which a hundred megabytes of dead buffers would
 * call for again and again. Nobody may use the buffer, or another view of that memory, afterwards. Buffers that are cut
 * from a pool are left alone.
 */
export function freeMemory({ buffer, byteLength }: Uint8Array): void {
  // What is cut from a pool is less than half of it.
  if (!(buffer instanceof ArrayBuffer) || byteLength * 2 <= buffer.byteLength || buffer.detached) return;
  buffer.transfer(0);
}

/** Whether that was done: a buffer without memory would read as nothing. */
export const isFreed = ({ buffer }: Uint8Array): boolean => buffer instanceof ArrayBuffer && buffer.detached;
