import debug from 'debug';
import { FUSE_NATIVE_LACKS } from '../../../mount/mount.ts';
import { BlockError, errnoOf } from '../../block/errors.ts';
import type { Graph } from '../../block/graph.ts';
import type { Node } from '../../block/node.ts';
import { reaches } from '../../block/rewire.ts';
import { Serial } from '../../util/serial.ts';
import type { ServedMount } from '../../sys/running-servers.ts';
import { formatName } from '../../block/storage.ts';
import { DiskExport } from './disk-export.ts';
import type { ExportSpec } from './messages.ts';
import { MountPoints } from './mount-points.ts';

const log = debug('blockfuse:server');

export interface ExportWatcher {
  warn(message: string): void;
  /** QEMU's name of an event. */
  event(name: string, data: Readonly<Record<string, unknown>>): void;
  /** The list of exports is another one now. */
  changed(): void;
  /** Something could not be written when an export ended, and nobody asked for its end. */
  failed(error: unknown): void;
}

/** The exports of a server by id. */
export class Exports {
  private readonly graph: Graph;
  private readonly watcher: ExportWatcher;
  private readonly disks = new Map<string, DiskExport>();
  private readonly points = new MountPoints((disk) => {
    void this.close(disk).catch((error: unknown) => {
      this.watcher.failed(error);
    });
  });
  /** Mount points are taken and left one after the other. */
  private readonly changes = new Serial();
  /** Also of those that are closed: the end of a mount and whoever asked for it both come here, in any order. */
  private readonly closing = new WeakMap<DiskExport, Promise<void>>();

  constructor(graph: Graph, watcher: ExportWatcher) {
    this.graph = graph;
    this.watcher = watcher;
  }

  get all(): readonly DiskExport[] {
    return [...this.disks.values()];
  }

  get size(): number {
    return this.disks.size;
  }

  get mounts(): readonly ServedMount[] {
    return this.all.flatMap((disk) => {
      const { place, spec, node, fuse } = disk;
      if (place === undefined) return [];
      return {
        mountpoint: place.path,
        file: place.fileOf(disk),
        image: spec.imageName ?? (node.filename === '' ? node.name : node.filename),
        node: node.name,
        format: formatName(node),
        readOnly: !fuse.options.writable,
      };
    });
  }

  /** Resolves when the disk can be read. Rejects with nothing left behind. */
  add(spec: ExportSpec): Promise<void> {
    return this.changes.run(async () => {
      if (this.disks.has(spec.id))
        throw new BlockError('EEXIST', `Block export id '${spec.id}' is already in use`);
      const warn = (message: string): void => {
        this.watcher.warn(message);
      };
      if (spec.writable === true) await this.graph.allowWriting(this.graph.node(spec.nodeName));
      const disk = new DiskExport(this.graph, spec, warn, () => this.all);
      if (spec.writable === 'auto' && disk.node.readOnly)
        this.watcher.warn(`"${spec.imageName ?? spec.nodeName}" can only be read`);
      if (spec.transport === 'fuse-native') this.watcher.warn(FUSE_NATIVE_LACKS);
      this.reportErrors(disk);
      try {
        await this.points.add(disk);
      } catch (error) {
        await disk.close().catch(() => undefined);
        throw error;
      }
      this.disks.set(spec.id, disk);
      log('export %s: node %s at %s', spec.id, spec.nodeName, spec.mountpoint);
      for (const { place, file, hasOtherWriters } of this.all)
        if (hasOtherWriters) await place?.mounted?.invalidate(file);
      this.watcher.changed();
    });
  }

  /** Ends an export and flushes. EBUSY, nothing changed, while its file is in use, unless `lazy`. */
  remove(disk: DiskExport, lazy: boolean): Promise<void> {
    return this.changes.run(async () => {
      if (this.disks.get(disk.spec.id) !== disk) return;
      disk.isShuttingDown = true;
      try {
        await this.points.remove(disk, lazy);
      } catch (error) {
        disk.isShuttingDown = false;
        throw error;
      }
      await this.close(disk);
    });
  }

  /** Ends every export; the first error is thrown when all were asked, those in use stay. */
  async removeAll(disks: readonly DiskExport[], lazy: boolean): Promise<void> {
    const errors: unknown[] = [];
    for (const disk of disks) await this.remove(disk, lazy).catch((error: unknown) => errors.push(error));
    if (errors.length > 0) throw errors.find((error) => errnoOf(error) !== 'EBUSY') ?? errors[0];
  }

  find(id: string): DiskExport | undefined {
    return this.disks.get(id);
  }

  /** Those that show the node, or something above it. */
  over(node: Node): DiskExport[] {
    return this.all.filter((disk) => reaches(disk.node, node));
  }

  at(mountpoint: string): DiskExport[] {
    return this.all.filter(({ place }) => place?.path === mountpoint);
  }

  /** Whoever ends an export waits for the same close. */
  private close(disk: DiskExport): Promise<void> {
    const known = this.closing.get(disk);
    if (known !== undefined) return known;
    const closing = disk.close().finally(() => {
      this.disks.delete(disk.spec.id);
      log('export %s has ended', disk.spec.id);
      this.watcher.event('BLOCK_EXPORT_DELETED', { id: disk.spec.id });
      this.watcher.changed();
    });
    this.closing.set(disk, closing);
    return closing;
  }

  private reportErrors({ fuse, child }: DiskExport): void {
    fuse.onError = (operation, error) => {
      const code = errnoOf(error);
      if (code === 'EINTR' || code === 'EROFS') return;
      this.watcher.event('BLOCK_IO_ERROR', {
        device: fuse.options.id,
        'node-name': (error instanceof BlockError ? error.context.node : undefined) ?? child.node.name,
        operation,
        action: 'report',
        nospace: code === 'ENOSPC',
        reason: error instanceof Error ? error.message : String(error),
      });
    };
  }
}
