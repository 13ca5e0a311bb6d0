import type { MountPoint } from '../../src/sys/fuse-mountpoint.ts';
import type { MountOptions } from '../mount-options.ts';

/** What is mounted where, decided: what both ways of mounting work from. */
export interface MountPlan {
  readonly at: MountPoint;
  readonly options: MountOptions;
  /** First column of the table of mounts: the image. */
  readonly source: string;
  /** `blockfuse`: the type is `fuse.blockfuse`. */
  readonly subtype: string;
  readonly allowOther: boolean;
}
