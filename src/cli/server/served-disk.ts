import type { ServedMount } from '../../sys/running-servers.ts';

/** An image that is open and mounted. */
export interface ServedDisk {
  readonly mount: ServedMount;
  /** Settles when the mount is gone, whoever ended it. */
  readonly unmounted: Promise<void>;
  /** Ends the mount; rejects with EBUSY, nothing changed, when it is in use and `lazy` is not set. */
  unmount(lazy: boolean): Promise<void>;
  /** Flushes and closes the image, once the mount is gone. Rejects when anything could not be written. */
  close(): Promise<void>;
  /** What `x-blockfuse-info` tells about it. */
  describe(): Readonly<Record<string, unknown>>;
}
