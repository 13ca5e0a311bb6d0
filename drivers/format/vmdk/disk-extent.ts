import type { Extent, Placement } from '../../../src/block/extent.ts';

/**
 * One of the pieces that a disk is put together from. All offsets are bytes from the start of the piece; the image has
 * cut every request to it. The try methods keep the rules of MappingDriver.
 */
export interface DiskExtent {
  /** Bytes of the disk. */
  readonly length: number;
  /** Bytes that are allocated as one; 1 where nothing is. */
  readonly unit: number;
  /** Whether it can be written at all: the descriptor lets it be, and there is a writer for its kind. */
  readonly canWrite: boolean;
  readonly description: ExtentDescription;
  tryMap(offset: number, max: number, out: Extent): boolean;
  /** Sets `out.start` in bytes of the piece too; `out.token`, where there is one, is a GrainClaim. */
  tryAllocate(offset: number, length: number, out: Placement): boolean;
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false;
  tryDiscard(offset: number, length: number): number | false;
  readOpaque?(bytes: Buffer, offset: number): Promise<void>;
  tryReadOpaque?(bytes: Buffer, at: number, length: number, offset: number): boolean;
  /** For an extent that was opened read-only: reads what writing takes. The answer puts it in force and never fails. */
  prepareWriting(): Promise<() => void>;
  /** Leaves the file as it is left at close; it may be read, or written again, afterwards. */
  settle(): Promise<void>;
  /** For the last extent of a disk: makes it so long, zeroes behind its end; answers what takes its place. */
  resize?(length: number): Promise<DiskExtent>;
  flush(): Promise<void>;
  /** With nothing under way. */
  close(): Promise<void>;
}

/** What `info` says about an extent. */
export interface ExtentDescription {
  readonly filename: string;
  /** The type of the descriptor's line. */
  readonly format: string;
  readonly clusterSize?: number;
  readonly compressed?: boolean;
}

/** A place that was named and waits for commit or abort. */
export interface GrainClaim {
  commit(): void;
  abort(): void;
}
