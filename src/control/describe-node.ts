import path from 'node:path';
import type { ImageInfo } from '../block/driver.ts';
import type { SnapshotInfo } from '../block/snapshot-capability.ts';
import type { Node } from '../block/node.ts';
import { allocatedSize } from '../block/storage.ts';

/** One image in the shape of `qemu-img info --output=json`; keys that do not apply are left out. */
export type ImageDescription = Readonly<Record<string, unknown>>;

export async function describeNode(node: Node): Promise<ImageDescription> {
  const info = (await node.impl.info?.()) ?? {};
  const filename = imageFilename(node);
  return withoutUndefined({
    'virtual-size': node.size,
    filename,
    'cluster-size': info.clusterSize,
    format: node.driver.name,
    'actual-size': allocatedSize(node),
    encrypted: info.encrypted === true ? true : undefined,
    compressed: info.compressed === true ? true : undefined,
    'backing-filename': info.backingFilename,
    'full-backing-filename': fullBackingFilename(node, filename, info),
    'backing-filename-format': info.backingFormat,
    snapshots:
      info.snapshots === undefined || info.snapshots.length === 0
        ? undefined
        : info.snapshots.map(describeSnapshot),
    'format-specific':
      info.formatSpecific === undefined ? undefined : { type: node.driver.name, data: info.formatSpecific },
    'dirty-flag': info.dirty ?? false,
  });
}

/** The file name at the bottom of the node, or a JSON name for what has none. */
export function imageFilename(node: Node): string {
  return node.filename === '' ? `json:${JSON.stringify(node.options)}` : node.filename;
}

/** The backing file that is open; where it lies just where the image says, as it follows from the two names. */
function fullBackingFilename(node: Node, filename: string, info: ImageInfo): string | undefined {
  const named = namedBacking(filename, info.backingFilename);
  const open = node.cow?.node.filename;
  if (open === undefined || open === '') return named;
  return named !== undefined && path.resolve(named) === path.resolve(open) ? named : open;
}

function namedBacking(filename: string, name: string | undefined): string | undefined {
  if (name === undefined || path.isAbsolute(name) || /^[a-z+]+:/.test(name)) return name;
  return path.join(path.dirname(filename), name);
}

const NANOSECONDS = 1_000_000_000n;

export function describeSnapshot(info: SnapshotInfo): ImageDescription {
  return withoutUndefined({
    id: info.id,
    name: info.name,
    'vm-state-size': info.vmStateSize,
    'date-sec': info.dateSec,
    'date-nsec': info.dateNsec,
    'vm-clock-sec': Number(info.vmClockNsec / NANOSECONDS),
    'vm-clock-nsec': Number(info.vmClockNsec % NANOSECONDS),
    icount: info.icount === undefined ? undefined : Number(info.icount),
  });
}

function withoutUndefined(tree: Record<string, unknown>): ImageDescription {
  return Object.fromEntries(Object.entries(tree).filter(([, value]) => value !== undefined));
}
