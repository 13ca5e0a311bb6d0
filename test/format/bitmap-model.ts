/** Dirty bitmaps of a qcow2 image that are sure to be right, beside the disk's content. */
import { ModelDisk } from '../helpers/model-disk.ts';
import type { DirtyExtents } from '../helpers/dirty-extents.ts';

export class ModelBitmap {
  readonly granularity: number;
  enabled: boolean;
  granules = new Set<number>();

  constructor(granularity: number, enabled: boolean) {
    this.granularity = granularity;
    this.enabled = enabled;
  }

  set(offset: number, length: number): void {
    const end = offset + length;
    for (let at = Math.floor(offset / this.granularity); at * this.granularity < end; at += 1)
      this.granules.add(at);
  }

  merge(other: ModelBitmap, size: number): void {
    for (const [start, length] of other.extents(size)) this.set(start, length);
  }

  extents(size: number): DirtyExtents {
    const found: [number, number][] = [];
    for (const at of [...this.granules].sort((a, b) => a - b)) {
      const start = at * this.granularity;
      const length = Math.min(this.granularity, size - start);
      const last = found.at(-1);
      if (last !== undefined && last[0] + last[1] === start) last[1] += length;
      else found.push([start, length]);
    }
    return found;
  }

  resize(size: number): void {
    for (const at of this.granules) if (at * this.granularity >= size) this.granules.delete(at);
  }
}

export class ModelImage {
  disk: ModelDisk;
  readonly bitmaps = new Map<string, ModelBitmap>();
  readonly snapshots = new Map<string, ModelDisk>();

  constructor(size: number) {
    this.disk = new ModelDisk(size);
  }

  /** Content of a range has changed. */
  touched(offset: number, length: number): void {
    if (length > 0)
      for (const bitmap of this.bitmaps.values()) if (bitmap.enabled) bitmap.set(offset, length);
  }

  resize(size: number): void {
    this.disk.resize(size);
    for (const bitmap of this.bitmaps.values()) bitmap.resize(size);
  }

  apply(name: string): void {
    const snapshot = this.snapshots.get(name);
    if (snapshot === undefined) return;
    this.disk = snapshot.clone();
    for (const bitmap of this.bitmaps.values()) bitmap.resize(this.disk.size);
    this.touched(0, this.disk.size);
  }
}
