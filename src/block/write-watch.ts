import type { DirtyBitmap } from './dirty-bitmap.ts';
import type { OpenDriver } from './driver.ts';

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

  /** Throws where a bitmap can't follow the disk to that size. */
  requireRoom(size: number): void {
    for (const bitmap of this.bitmaps.values()) bitmap.requireRoom(size);
  }

  resized(size: number): void {
    for (const bitmap of this.bitmaps.values()) bitmap.resize(size);
  }
}

/** For a node that is opened: with the bitmaps that its image has; undefined where it has none. */
export function watchOf(impl: OpenDriver): WriteWatch | undefined {
  const stored = impl.family === 'mapping' ? (impl.dirtyBitmaps?.list() ?? []) : [];
  if (stored.length === 0) return undefined;
  const watch = new WriteWatch();
  for (const bitmap of stored) watch.bitmaps.set(bitmap.name, bitmap);
  return watch;
}
