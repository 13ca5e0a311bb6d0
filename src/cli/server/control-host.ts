/** What the control socket asks of the server (src/control/host.ts). */
import path from 'node:path';
import { BlockError } from '../../block/errors.ts';
import type { ControlHost, DescriptorHost, ExportHost } from '../../control/host.ts';
import {
  addToFdSet,
  closeNamedDescriptor,
  fdSets,
  nameDescriptor,
  removeFromFdSet,
} from '../../sys/fdsets.ts';
import { createFile } from '../../sys/file.ts';
import { createImage } from '../create-image.ts';
import { exportSpec } from './export-spec.ts';
import type { Server } from './server.ts';
import { openBlockdev } from './temporary-overlay.ts';

export function controlHost(server: Server): ControlHost {
  const { graph, jobs } = server;
  return {
    graph,
    jobs,
    exports: exportHost(server),
    descriptors: DESCRIPTORS,
    emit: (name, data) => {
      server.emit(name, data);
    },
    openNode: (options) => openBlockdev(graph, options),
    addObject: (type, id, options) => {
      graph.addObject(type, id, options);
    },
    removeObject: (id) => {
      graph.removeObject(id);
    },
    createImage: (image) => createImage(graph, image),
    createFile: (filename, size) => createFile(path.resolve(filename), size, true),
    changed: async (node) => {
      for (const { place, file } of server.exports.over(node)) await place?.mounted?.invalidate(file);
    },
    beforeResize: async (node) => {
      for (const { views } of server.exports.over(node)) await views.partitions.close();
    },
    beforeSnapshotDeletion: async (node, id) => {
      for (const { views } of server.exports.over(node)) await views.snapshots.release(id);
    },
    quit: () => {
      setImmediate(() => void server.end(true).catch(() => undefined));
    },
  };
}

function exportHost({ exports }: Server): ExportHost {
  return {
    list: () =>
      exports.all.map((disk) => ({
        id: disk.spec.id,
        nodeName: disk.node.name,
        isShuttingDown: disk.isShuttingDown,
        isWritable: disk.fuse.options.writable,
        file: disk.place?.fileOf(disk) ?? '',
      })),
    add: (options) => exports.add(exportSpec(options)),
    setNode: async (id, node) => {
      const disk = exports.find(id);
      if (disk === undefined) throw new BlockError('ENOENT', `Export '${id}' is not found`);
      await disk.setNode(node);
    },
    remove: async (id, hard) => {
      const disk = exports.find(id);
      if (disk === undefined) throw new BlockError('ENOENT', `Export '${id}' is not found`);
      await exports.remove(disk, hard);
    },
  };
}

const DESCRIPTORS: DescriptorHost = {
  sets: fdSets,
  add: (fd, set, opaque) => ({ set: addToFdSet(fd, set, opaque), fd }),
  remove: removeFromFdSet,
  name: nameDescriptor,
  closeNamed: closeNamedDescriptor,
};
