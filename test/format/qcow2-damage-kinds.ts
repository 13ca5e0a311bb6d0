/** How a kind of damage of a qcow2 image is described. */
import type { Edit } from './qcow2-edit.ts';

/** How an image is made that is whole: options of qemu-img create, what is done then. */
export interface Base {
  readonly options: string;
  readonly hasSnapshots?: boolean;
  readonly hasBitmap?: boolean;
  readonly hasDataFile?: boolean;
}

export interface DamageKind {
  readonly name: string;
  readonly base: Base;
  readonly damage: (edit: Edit) => void;
  /** What a message says: which table, which entry. */
  readonly says: RegExp;
  /** QEMU reads an entry that can't be followed as if it could: it counts other things, and comes to the same exit code. */
  readonly countsDiffer?: boolean;
  /** QEMU does not look there. */
  readonly unseenByQemu?: boolean;
  /** Guest bytes, from and to, that read as zeroes afterwards. */
  readonly lost?: readonly [number, number];
  /** Guest bytes that are others by the damage itself. */
  readonly changed?: readonly [number, number];
  /** Those that are left; all where this is left out. */
  readonly snapshots?: readonly string[];
  /** One that is there, with other content. */
  readonly lostSnapshot?: string;
  /** Nothing can be done about it. */
  readonly isFinal?: boolean;
}

export const PLAIN: Base = { options: 'compat=1.1' };
export const SMALL: Base = { options: 'cluster_size=512' };
export const EXTENDED: Base = { options: 'extended_l2=on' };
export const SHARED: Base = { options: 'compat=1.1', hasSnapshots: true };
export const OLD: Base = { options: 'compat=0.10' };
export const BITMAP: Base = { options: 'compat=1.1', hasBitmap: true };
export const EXTERNAL: Base = { options: 'data_file=DATA', hasDataFile: true };

export const CLUSTER = 65536;
export const SECOND = [CLUSTER, 2 * CLUSTER] as const;
/** All that an L2 table describes, of disks that are as small as these. */
export const ALL = [0, 8 * 1024 * 1024] as const;
