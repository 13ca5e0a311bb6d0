import type { MappingDriver } from './driver.ts';

export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  readonly vmStateSize: number;
  /** Bytes of the disk then. */
  readonly diskSize: number;
  /** Seconds and nanoseconds since 1970. */
  readonly dateSec: number;
  readonly dateNsec: number;
  readonly vmClockNsec: bigint;
  readonly icount?: bigint;
}

/** Snapshots that live inside an image. `idOrName`: an id first, else a name. Unknown ones reject with ENOENT. */
export interface SnapshotCapability {
  list(): SnapshotInfo[];
  /** Takes one of the disk as it is now; resolves when it is on stable storage. */
  create(name: string): Promise<SnapshotInfo>;
  /** The disk becomes what it was then. */
  apply(idOrName: string): Promise<void>;
  delete(idOrName: string): Promise<void>;
  /**
   * The disk as it was then, read-only; it goes on being that while the disk is written and other snapshots come and go.
   * While it is open `delete` of that snapshot rejects with EBUSY. Where nothing is allocated the backing child of the disk
   * shows through.
   * @param user who has it, in words, for that refusal
   */
  view(idOrName: string, user?: string): Promise<MappingDriver>;
  /** Bytes of the clusters that it has, whoever else has them. */
  allocatedSize(idOrName: string): Promise<number>;
  /**
   * What may have changed since a snapshot was taken, until another was, or until now: called with nothing under way above
   * the node. All that differs is told; what is not told of is the same.
   */
  noteChanges(since: string, until: string | undefined, note: ChangeNote): Promise<void>;
}

/** Told of a range of a disk, in bytes. */
export type ChangeNote = (offset: number, length: number) => void;
