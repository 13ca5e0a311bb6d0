import type { DirtyBitmap } from './dirty-bitmap.ts';

/** What wants to know of every change of a node's content. A node has one from the first time that somebody asked. */
export class WriteWatch {
  readonly bitmaps = new Map<string, DirtyBitmap>();
  /** A write that ends beyond this many bytes is told, once; 0: none. */
  threshold = 0;
  onThreshold: ((exceeded: number, threshold: number) => void) | undefined = undefined;

  /** Somebody is told: nothing may write past the node. */
  get isActive(): boolean {
    return this.bitmaps.size > 0 || this.threshold > 0;
  }

  /** After each change, also one that has failed half-way. Allocates nothing. */
  wrote(offset: number, length: number): void {
    for (const bitmap of this.bitmaps.values()) if (bitmap.enabled) bitmap.set(offset, length);
    if (this.threshold === 0 || offset + length <= this.threshold) return;
    const { threshold } = this;
    this.threshold = 0;
    this.onThreshold?.(offset + length - threshold, threshold);
  }

  resized(size: number): void {
    for (const bitmap of this.bitmaps.values()) bitmap.resize(size);
  }
}
