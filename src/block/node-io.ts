import type { Extent } from './extent.ts';
import type { Limits } from './limits.ts';

/**
 * One form for every family of driver: what a node does its I/O through, below the strict wrapper.
 * Arguments are checked, inside the node, aligned and split when they get here.
 */
export interface NodeIo {
  readonly size: number;
  readonly limits: Limits;
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean;
  /** False: redo it with `write`; parts may be written already. */
  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean;
  read(bytes: Buffer, offset: number): Promise<void>;
  write(bytes: Buffer, offset: number, flags: number): Promise<void>;
  /** Rejects with ENOTSUP, nothing done, where writing zeroes is as good; the node does that then. */
  writeZeroes(offset: number, length: number, flags: number): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  /** Whether a range is sure to read as zeroes, as far as what is in memory tells. Left out: it can't be told. */
  readsAsZero?(offset: number, length: number): boolean;
  /** Loads what that takes, so far as the range may read as zeroes. Left out: nothing is ever loaded. */
  loadMapping?(offset: number, length: number): Promise<void>;
  /** Whole allocation units; plain where the driver has nothing better. Left out: never better. */
  writeCompressed?(bytes: Buffer, offset: number): Promise<void>;
  /** Copies into this node what it reads from its backing child; left out where there can be none. */
  copyUp?(offset: number, length: number): Promise<void>;
  /** Zeroes a range for a caller that holds all of the node exclusively; left out where nothing below shows through. */
  zeroLocked?(offset: number, length: number): Promise<void>;
  /** What lies at `offset` in this node alone. */
  tryStatus(offset: number, max: number, out: Extent): boolean;
  /** After tryStatus returned false, in the same turn. */
  loadStatus(): Promise<void>;
}
