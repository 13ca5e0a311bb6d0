import { BlockFile } from '../../../mount/block-file.ts';
import type { BlockFileOptions, HostFile } from '../../../mount/block-file.ts';
import { FuseExport } from '../../../mount/export.ts';
import { mountTree } from '../../../mount/mount.ts';
import type { Mounted } from '../../../mount/mount.ts';
import { Directory } from '../../../mount/tree.ts';
import type { DirectorySource } from '../../../mount/tree.ts';
import type { Child } from '../../block/child.ts';
import type { Graph } from '../../block/graph.ts';
import { wholeHostFile } from '../../block/identity.ts';
import type { Node } from '../../block/node.ts';
import { Permission } from '../../block/permissions.ts';
import { mayAllowOther } from '../../sys/fuse-conf.ts';
import { inspectMountPoint, modificationTime } from '../../sys/fuse-mountpoint.ts';
import { hostAttributes } from '../../sys/host-attributes.ts';
import { makeGraph } from '../open-graph.ts';
import { allocatedSize, formatName, storageNodes } from '../storage.ts';
import type { ServeRequest } from './messages.ts';
import { PartitionFolder } from './partitions.ts';
import type { ServedDisk } from './served-disk.ts';
import { writeThrough } from './write-through.ts';

/** Opens the image and mounts it. Rejects with nothing left behind. */
export async function mountDisk(request: ServeRequest, warn: (message: string) => void): Promise<ServedDisk> {
  const mountpoint = await inspectMountPoint(request.mountpoint);
  const graph = makeGraph(request.gate, warn);
  try {
    const node = await graph.open(request.image);
    if (node.readOnly && !request.readOnly) warn(`"${request.imageName}" can only be read`);
    const disk = makeExport(graph, node, request);
    const file = new BlockFile(fileOptions(disk.fuse, node, request));
    const name = `${node.name}.raw`;
    let mounted: Mounted | undefined;
    const partitions = new PartitionFolder({
      graph,
      node,
      child: disk.child,
      file,
      invalidate: async (...range) => mounted?.invalidate(...range),
      warn,
    });
    mounted = await mountTree({
      mountpoint: mountpoint.path,
      root: mountpoint.kind === 'file' ? file : folderOf(name, file, partitions),
      source: node.filename.startsWith('/') ? node.filename : request.imageName,
      allowOther: letsOthersIn(request) ? 'on' : 'off',
      options: request.mountWords,
      passthrough: mayPassThrough(node, request),
    });
    const path = mountpoint.kind === 'file' ? mounted.mountpoint : `${mounted.mountpoint}/${name}`;
    return served({ graph, node, disk, mounted, path, request });
  } catch (error) {
    await graph.close().catch(() => undefined);
    throw error;
  }
}

interface Disk {
  readonly child: Child;
  readonly fuse: FuseExport;
}

function makeExport(graph: Graph, node: Node, request: ServeRequest): Disk {
  const writable = !node.readOnly;
  const fuse = new FuseExport({
    id: 'mount',
    writable,
    growable: request.growable && writable,
    discard: node.common.discard === 'unmap',
  });
  const child = graph.attachRoot(node, {
    name: 'mount',
    label: fuse.label,
    used:
      Permission.consistentRead |
      (writable ? Permission.write : 0) |
      (fuse.options.growable ? Permission.resize : 0),
    hooks: fuse,
  });
  fuse.attach(request.writeThrough ? writeThrough(child) : child);
  return { child, fuse };
}

const letsOthersIn = ({ allowOther }: ServeRequest): boolean =>
  allowOther === 'on' || (allowOther === 'auto' && mayAllowOther());

/** Others who are let in see the file with the mode of the image; alone, the owner of the mount has it. */
function fileOptions(fuse: FuseExport, node: Node, request: ServeRequest): BlockFileOptions {
  const fd = storageNodes(node)[0]?.impl.hostFd;
  const host = fd === undefined ? undefined : hostAttributes(fd);
  const owner =
    host === undefined || !letsOthersIn(request)
      ? {}
      : { uid: host.uid, gid: host.gid, mode: fuse.options.writable ? host.mode & 0o666 : host.mode & 0o444 };
  return {
    export: fuse,
    ...owner,
    ...(host === undefined ? {} : { mtime: host.mtime }),
    allocated: () => allocatedSize(node) ?? node.size,
    allocationUnit: node.limits.allocationUnit,
    properties: { node: node.name, driver: node.driver.name, format: formatName(node) },
    passthrough: () => (mayPassThrough(node, request) ? hostFile(node) : undefined),
  };
}

/** The kernel may do the I/O itself where every byte goes to one host file as it is, and no option wants to see it. */
function mayPassThrough(node: Node, request: ServeRequest): boolean {
  return !request.writeThrough && !node.common.cacheDirect && hostFile(node) !== undefined;
}

function hostFile(node: Node): HostFile | undefined {
  const fd = wholeHostFile(node)?.impl.hostFd;
  return fd === undefined ? undefined : { fd, mtime: () => modificationTime(fd) };
}

function folderOf(name: string, file: BlockFile, views: DirectorySource): Directory {
  const folder = new Directory({}, views);
  folder.add(name, file);
  return folder;
}

interface Parts {
  readonly graph: Graph;
  readonly node: Node;
  readonly disk: Disk;
  readonly mounted: Mounted;
  readonly path: string;
  readonly request: ServeRequest;
}

function served({ graph, node, disk, mounted, path, request }: Parts): ServedDisk {
  return {
    mount: {
      mountpoint: mounted.mountpoint,
      file: path,
      image: request.imageName,
      node: node.name,
      format: formatName(node),
      readOnly: node.readOnly,
    },
    unmounted: mounted.closed,
    unmount: async (lazy) => {
      await mounted.unmount(lazy);
      if (lazy) mounted.stop();
      await mounted.closed;
    },
    close: async () => {
      const flushed = await disk.child.flush().then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      await graph.close();
      if (flushed !== undefined) throw flushed.error;
    },
    describe: () => ({
      size: node.size,
      allocated: allocatedSize(node),
      passthrough: mounted.passthrough,
      export: disk.fuse.counters,
      nodes: [...graph.nodes.values()].map(({ name, driver, counters }) => ({
        name,
        driver: driver.name,
        counters,
      })),
    }),
  };
}
