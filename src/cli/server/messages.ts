/** What the command and the server that it starts tell each other: one JSON value a line. */
import type { Transport } from '../../../mount/mount.ts';
import type { GatePolicy } from '../../block/gate.ts';
import type { ServedMount } from '../../sys/running-servers.ts';
import type { EndpointAddress } from '../../sys/endpoint-address.ts';

/** One node shown at one mount point. */
export interface ExportSpec {
  readonly id: string;
  readonly nodeName: string;
  /** Absolute. On a directory the disk is the file `<node>.raw` in it; several exports may share one. */
  readonly mountpoint: string;
  /** `auto`: when the node can be written. */
  readonly writable: boolean | 'auto';
  readonly growable: boolean;
  readonly allowOther: 'auto' | 'on' | 'off';
  /** Every write is on stable storage before it is answered. */
  readonly writeThrough: boolean;
  /** Let the kernel do the I/O itself where every byte goes to a host file as it is. */
  readonly passthrough: boolean;
  /** How requests come; `dev-fuse` when left out. */
  readonly transport?: Transport | undefined;
  /** Words of `-o` that are the mount's own. */
  readonly mountWords: readonly string[];
  /** How the user calls the disk; the file name of the node when left out. */
  readonly imageName?: string | undefined;
}

/** A way for clients to reach the server. */
export type Chardev =
  | { readonly backend: 'stdio'; readonly id: string }
  | {
      readonly backend: 'socket';
      readonly id: string;
      readonly path: string | undefined;
      /** A socket that is open already, instead of a path. */
      readonly fd: number | undefined;
      /** Listens; else it connects. */
      readonly server: boolean;
      /** Waits for the first client before anything else is done. */
      readonly wait: boolean;
    };

/** Something to do before the server is ready, in order. */
export type ServeStep =
  | { readonly kind: 'fd'; readonly fd: number; readonly set: number; readonly opaque?: string | undefined }
  | {
      readonly kind: 'object';
      readonly type: string;
      readonly id: string;
      readonly options: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: 'chardev'; readonly chardev: Chardev }
  | { readonly kind: 'monitor'; readonly chardev: string; readonly pretty: boolean }
  | {
      readonly kind: 'blockdev';
      readonly options: Readonly<Record<string, unknown>>;
      /** As `detect-zeroes=unmap`, where the format has a way to store zeroes. */
      readonly detectZeroes?: boolean;
    }
  | { readonly kind: 'export'; readonly spec: ExportSpec };

/** QEMU's lists of drivers that may be used; without any, all may. */
export interface DriverLists {
  readonly writable: readonly string[];
  readonly readOnly: readonly string[];
}

/** The command's only message: what to serve. */
export interface ServeRequest {
  /** What is to be done, for messages: `mount "disk.qcow2"`. */
  readonly title: string;
  /** Arguments that the list of processes shows. */
  readonly words: readonly string[];
  readonly steps: readonly ServeStep[];
  /** Keys of encrypted images, base64: they travel over the pipe, never in arguments or the environment. */
  readonly secrets?: readonly { readonly id: string; readonly data: string }[] | undefined;
  readonly gate: Pick<GatePolicy, 'follow'>;
  readonly drivers?: DriverLists | undefined;
  /** Where relative file names begin until the server is ready; "/" afterwards. */
  readonly cwd: string;
  /** The end of the last export is the end of the server. */
  readonly endsWithLastExport: boolean;
  readonly pidFile?: string | undefined;
  /** Where messages are added, beside those that the command prints; absolute. */
  readonly logFile?: string | undefined;
  readonly log?: string | undefined;
  /** Where Prometheus may ask; a path is absolute. */
  readonly metrics?: EndpointAddress | undefined;
}

/** From the server, until the disks can be read: any number of warnings, then one of the others. */
export type ServeReport =
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  | {
      readonly type: 'ready';
      readonly pid: number;
      readonly mounts: readonly ServedMount[];
      readonly metrics?: string | undefined;
    };
