import { freeMemory } from './free-memory.ts';

/**
 * Memory of dead blocks of one size, kept for new ones: fresh memory costs the kernel as much as it takes to fill it. With
 * another size asked for, what is kept is let go.
 */
export class SpareMemory {
  private readonly maxBytes: number;
  private readonly spare: Buffer[] = [];

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Not zeroed. */
  take(size: number): Buffer {
    if (this.spare[0]?.length === size) return this.spare.pop() ?? Buffer.allocUnsafeSlow(size);
    for (const other of this.spare.splice(0)) freeMemory(other);
    return Buffer.allocUnsafeSlow(size);
  }

  /** Nobody looks at the block, or at another view of its memory, any longer. */
  give(block: Buffer): void {
    const { length } = block;
    const isLike = block.buffer.byteLength === length && length === (this.spare[0]?.length ?? length);
    if (isLike && length * (this.spare.length + 1) <= this.maxBytes) this.spare.push(block);
    else freeMemory(block);
  }
}
