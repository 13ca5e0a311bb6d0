import { BlockFile } from '../../../mount/block-file.ts';
import type { BlockFileOptions, HostFile } from '../../../mount/block-file.ts';
import { FuseExport } from '../../../mount/export.ts';
import type { Child } from '../../block/child.ts';
import { BlockError } from '../../block/errors.ts';
import type { Graph } from '../../block/graph.ts';
import { wholeHostFile } from '../../block/identity.ts';
import type { Node } from '../../block/node.ts';
import { Permission } from '../../block/permissions.ts';
import { reaches } from '../../block/rewire.ts';
import { mayAllowOther } from '../../sys/fuse-conf.ts';
import { modificationTime } from '../../sys/fuse-mountpoint.ts';
import { hostAttributes } from '../../sys/host-attributes.ts';
import { allocatedSize, formatName, storageNodes } from '../../block/storage.ts';
import type { ExportSpec } from './messages.ts';
import type { Place } from './mount-points.ts';
import { BitmapFolder } from './bitmaps.ts';
import { DiskViews } from './disk-views.ts';
import { PartitionFolder } from './partitions.ts';
import { SnapshotFolder } from './snapshots.ts';
import { writeThrough } from './write-through.ts';

/** A node that is shown as a file: its door to the graph, and the file with all that is shown beside it. */
export class DiskExport {
  readonly spec: ExportSpec;
  readonly fuse: FuseExport;
  /** Its node may become another one while it is mounted: filters and overlays come and go. */
  readonly child: Child;
  readonly file: BlockFile;
  /** Of the file, where the mount point is a directory. */
  readonly name: string;
  readonly views: DiskViews;
  /** Where it is mounted; undefined before and after. */
  place: Place | undefined = undefined;
  isShuttingDown = false;
  private readonly graph: Graph;
  private readonly all: () => readonly DiskExport[];

  /** @param all every export of the server: who else writes what this one shows is looked up there */
  constructor(
    graph: Graph,
    spec: ExportSpec,
    warn: (message: string) => void,
    all: () => readonly DiskExport[],
  ) {
    const node = graph.node(spec.nodeName);
    this.graph = graph;
    this.spec = spec;
    this.all = all;
    this.name = `${node.name}.raw`;
    this.fuse = fuseExport(node, spec);
    this.child = this.attach(node);
    this.fuse.attach(spec.writeThrough ? writeThrough(this.child) : this.child);
    this.file = new BlockFile(this.fileOptions());
    const disk = { graph, child: this.child, name: node.name, file: this.file };
    this.views = new DiskViews({
      partitions: new PartitionFolder({
        ...disk,
        invalidate: async (...range) => this.place?.mounted?.invalidate(...range),
        warn,
      }),
      snapshots: new SnapshotFolder({
        ...disk,
        isUsed: (file) => this.place?.mounted?.isUsed(file) ?? false,
      }),
      bitmaps: new BitmapFolder(disk),
    });
  }

  get node(): Node {
    return this.child.node;
  }

  /** Shows another node; files of partitions follow. */
  async setNode(node: Node): Promise<void> {
    const { size } = this.node;
    await this.views.partitions.close();
    await this.graph.moveRoot(this.child, node);
    if (node.size !== size) await this.place?.mounted?.invalidate(this.file);
  }

  /** Another export writes what this one shows. */
  get hasOtherWriters(): boolean {
    return this.all().some(
      (other) =>
        other !== this &&
        other.fuse.options.writable &&
        [...writtenBy(other.node)].some((node) => reaches(this.node, node)),
    );
  }

  /** The kernel may do the I/O itself now: nothing between the file and the host file has to see the bytes. */
  get mayPassThrough(): boolean {
    const { spec, node } = this;
    return spec.passthrough && !spec.writeThrough && !node.common.cacheDirect && hostFile(node) !== undefined;
  }

  /** Flushes and gives the door back; for one that is not mounted any more. Rejects with the first error. */
  async close(): Promise<void> {
    this.fuse.detach();
    const errors: unknown[] = [];
    const note = (error: unknown): void => {
      errors.push(error);
    };
    await this.views.close().catch(note);
    // A detached mount may have requests under way, of several steps each: none may come after the flush.
    await this.fuse.drained();
    await this.child.flush().catch(note);
    await this.graph.detach(this.child).catch(note);
    if (errors.length > 0) throw errors[0];
  }

  private attach(node: Node): Child {
    const { fuse } = this;
    const { writable, growable } = fuse.options;
    return this.graph.attachRoot(node, {
      name: this.spec.id,
      label: fuse.label,
      used:
        Permission.consistentRead | (writable ? Permission.write : 0) | (growable ? Permission.resize : 0),
      hooks: {
        drainBegin: () => {
          fuse.drainBegin();
        },
        drained: () => this.drained(),
        drainEnd: () => {
          fuse.drainEnd();
        },
      },
    });
  }

  private async drained(): Promise<void> {
    await this.fuse.drained();
    if (this.place?.mounted?.isPassed(this.file) === true) {
      const text = `${this.fuse.label} is open and the kernel does its I/O past this server, close the file first`;
      throw new BlockError('EBUSY', `Cannot change what is below node "${this.node.name}": ${text}`);
    }
  }

  /** Others who are let in see the file with the mode of the image; alone, the owner of the mount has it. */
  private fileOptions(): BlockFileOptions {
    const { fuse, node } = this;
    const fd = storageNodes(node)[0]?.impl.hostFd;
    const host = fd === undefined ? undefined : hostAttributes(fd);
    const mode = (host?.mode ?? 0) & (fuse.options.writable ? 0o666 : 0o444);
    return {
      export: fuse,
      ...(host === undefined || !letsOthersIn(this.spec) ? {} : { uid: host.uid, gid: host.gid, mode }),
      ...(host === undefined ? {} : { mtime: host.mtime }),
      allocated: () => allocatedSize(this.node) ?? this.node.size,
      allocationUnit: node.limits.allocationUnit,
      properties: { node: node.name, driver: node.driver.name, format: formatName(node) },
      uncached: () => this.hasOtherWriters,
      passthrough: () =>
        this.mayPassThrough && this.file.windows?.hasOpenPart !== true ? hostFile(this.node) : undefined,
    };
  }
}

/** The nodes that a write to this one may change: all below but backing files. */
function writtenBy(node: Node, found = new Set<Node>()): Set<Node> {
  found.add(node);
  for (const child of node.children.values()) if (child !== node.cow) writtenBy(child.node, found);
  return found;
}

export const letsOthersIn = ({ allowOther }: ExportSpec): boolean =>
  allowOther === 'on' || (allowOther === 'auto' && mayAllowOther());

function fuseExport(node: Node, spec: ExportSpec): FuseExport {
  if (spec.writable === true && node.readOnly) {
    const text = `Cannot export node "${node.name}" as writable: Block node is read-only`;
    throw new BlockError('EROFS', text, { node: node.name });
  }
  const writable = spec.writable === 'auto' ? !node.readOnly : spec.writable;
  return new FuseExport({
    id: spec.id,
    writable,
    growable: spec.growable && writable,
    discard: node.common.discard === 'unmap',
  });
}

function hostFile(node: Node): HostFile | undefined {
  const impl = wholeHostFile(node)?.impl;
  const fd = impl?.hostFd;
  if (fd === undefined) return undefined;
  return { fd, mtime: () => modificationTime(fd), remeasure: () => impl?.remeasure?.() };
}
