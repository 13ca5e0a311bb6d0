/** What the command and the server that it starts tell each other: one JSON value a line. */
import type { GatePolicy } from '../../block/gate.ts';
import type { ServedMount } from '../../sys/running-servers.ts';

/** The command's only message: what to serve. All paths are absolute. */
export interface ServeRequest {
  /** The node to show, as an options tree. */
  readonly image: Readonly<Record<string, unknown>>;
  /** How the user calls the image. */
  readonly imageName: string;
  readonly mountpoint: string;
  readonly gate: Pick<GatePolicy, 'follow'>;
  readonly readOnly: boolean;
  readonly growable: boolean;
  readonly allowOther: 'auto' | 'on' | 'off';
  /** Every write is on stable storage before it is answered. */
  readonly writeThrough: boolean;
  /** Words of `-o` that are the mount's own. */
  readonly mountWords: readonly string[];
  readonly pidFile?: string | undefined;
  readonly log?: string | undefined;
}

/** From the server, until the disk can be read: any number of warnings, then one of the others. */
export type ServeReport =
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  | { readonly type: 'ready'; readonly pid: number; readonly mount: ServedMount };
