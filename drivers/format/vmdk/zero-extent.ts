import type { Extent } from '../../../src/block/extent.ts';
import type { DiskExtent, ExtentDescription } from './disk-extent.ts';
import { readOnlyExtent } from './flat-extent.ts';

/** A piece without a file: reads as zeroes, has no room for anything else. */
export class ZeroExtent implements DiskExtent {
  readonly length: number;
  readonly unit = 1;
  /** Nothing about it hinders writing the rest of the disk. */
  readonly canWrite = true;
  readonly description: ExtentDescription;

  constructor(length: number, description: ExtentDescription) {
    this.length = length;
    this.description = description;
  }

  tryMap(_offset: number, max: number, out: Extent): boolean {
    return out.setZero(max);
  }

  tryAllocate(): boolean {
    throw readOnlyExtent(this.description);
  }

  tryZero(_offset: number, length: number): number | false {
    return length;
  }

  tryDiscard(_offset: number, length: number): number | false {
    return length;
  }

  prepareWriting(): Promise<() => void> {
    return Promise.resolve(() => {});
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
