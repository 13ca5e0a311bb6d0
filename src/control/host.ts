/** What the control socket needs of the program around it: it knows neither files, sockets nor FUSE itself. */
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import type { OptionsTree } from '../block/options.ts';
import type { Jobs } from '../jobs/jobs.ts';
import type { Emit } from './events.ts';

export interface ControlHost {
  readonly graph: Graph;
  readonly jobs: Jobs;
  readonly exports: ExportHost;
  readonly descriptors: DescriptorHost;
  readonly emit: Emit;
  /** `blockdev-add`, also with options that are this program's own. */
  openNode(options: OptionsTree): Promise<Node>;
  addObject(type: string, id: string, options: OptionsTree): void;
  removeObject(id: string): void;
  /** A new image file with the format's structures in it. */
  createImage(image: ImageToCreate): Promise<void>;
  /** A new file of zeroes. */
  createFile(filename: string, size: number): Promise<void>;
  /** Content or size of a node may have changed by other ways than through its exports: caches are dropped. */
  changed(node: Node): Promise<void>;
  /** Before the size of a node changes: what is shown of parts of it is closed. */
  beforeResize(node: Node): Promise<void>;
  /** Before a snapshot inside the image is deleted: what shows it is closed. Rejects with EBUSY where somebody reads it. */
  beforeSnapshotDeletion(node: Node, id: string): Promise<void>;
  quit(): void;
}

export interface ImageToCreate {
  readonly filename: string;
  readonly format: string;
  /** Bytes of the disk. */
  readonly size: number;
  readonly options: OptionsTree;
}

/** What `block-export-add` and `--export` take. */
export interface ExportOptions {
  readonly type: 'fuse';
  readonly id: string;
  readonly 'node-name': string;
  readonly mountpoint: string;
  readonly writable: boolean;
  readonly growable: boolean;
  readonly 'allow-other': 'auto' | 'on' | 'off';
  readonly writethrough: boolean;
  readonly passthrough: boolean;
}

export interface ExportState {
  readonly id: string;
  readonly nodeName: string;
  readonly isShuttingDown: boolean;
  readonly isWritable: boolean;
  /** The file that shows it; '' while there is none. */
  readonly file: string;
}

export interface ExportHost {
  list(): readonly ExportState[];
  add(options: ExportOptions): Promise<void>;
  /** The export shows another node from now on; its users notice nothing but the content. */
  setNode(id: string, node: Node): Promise<void>;
  /** Throws EBUSY, nothing changed, while it is in use, unless `hard`. */
  remove(id: string, hard: boolean): Promise<void>;
}

export interface FdSet {
  readonly id: number;
  readonly fds: readonly { readonly fd: number; readonly opaque: string | undefined }[];
}

/** Descriptors that were handed to this process, for `/dev/fdset/N`. */
export interface DescriptorHost {
  sets(): readonly FdSet[];
  /** The set is made when it is not there; a new one without `set`. */
  add(fd: number, set: number | undefined, opaque: string | undefined): { set: number; fd: number };
  /** The whole set without `fd`. False: there is none. */
  remove(set: number, fd: number | undefined): boolean;
  /** Under a name, for `/dev/fdset` or where a descriptor's name is taken. One of that name before is closed. */
  name(name: string, fd: number): void;
  /** False: there is none of that name. */
  closeNamed(name: string): boolean;
}
