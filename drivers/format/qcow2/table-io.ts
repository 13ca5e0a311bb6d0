import type { Child } from '../../../src/block/child.ts';

/** Writes table bytes as they are now, though they may change while the write is under way. */
export async function writeTable(file: Child, bytes: Buffer, offset: number): Promise<void> {
  if (!file.tryWrite(bytes, 0, bytes.length, offset)) await file.write(Buffer.from(bytes), offset);
}
