/**
 * How large the disk is and where its parts lie:
 *
 *     [partition table, 63 sectors; disks only] [reserved] [FAT] [FAT] [root directory; not FAT32] [clusters 2, 3, ...]
 *
 * As large as QEMU makes it (a floppy of 1.44 or 2.88 MB, a disk of 504 MB), or as large as it takes.
 * Microsoft's FAT specification: the type of a FAT follows from the number of clusters alone.
 */
import { BlockError } from '../../../src/block/errors.ts';
import { formatSize } from '../../../src/util/sizes.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { folders } from './tree.ts';
import type { FolderItem } from './tree.ts';

export const SECTOR = 512;
export const SLOT = 32;
const PARTITION_START = 63;

export type FatType = 12 | 16 | 32;

export interface Geometry {
  readonly type: FatType;
  readonly floppy: boolean;
  readonly sectorsPerTrack: number;
  readonly heads: number;
  readonly sectorsPerCluster: number;
  readonly clusters: number;
  /** All in sectors, from the start of the disk. */
  readonly partition: number;
  readonly reserved: number;
  readonly fatLength: number;
  readonly rootLength: number;
  readonly dataStart: number;
  readonly total: number;
}

const MOST_CLUSTERS: Readonly<Record<FatType, number>> = { 12: 4084, 16: 65_524, 32: 268_435_444 };
const FEWEST_CLUSTERS: Readonly<Record<FatType, number>> = { 12: 1, 16: 4085, 32: 65_525 };
const LARGEST_CLUSTER = 64;
const MBR_LIMIT = 2 ** 32 - 1;

export interface Wanted {
  readonly type: FatType | undefined;
  readonly floppy: boolean;
}

/** Throws when the content does not fit a disk of the kind that was asked for. */
export function chooseGeometry(root: FolderItem, wanted: Wanted, subject: string): Geometry {
  if (wanted.floppy) return floppyGeometry(root, wanted, subject);
  const types: readonly FatType[] = wanted.type === undefined ? [16, 32] : [wanted.type];
  for (const type of types) {
    for (let perCluster = type === 32 ? 8 : 16; perCluster <= LARGEST_CLUSTER; perCluster *= 2) {
      const geometry = diskGeometry(root, type, perCluster);
      if (geometry !== undefined) return geometry;
    }
  }
  return refuse(root, `a disk with FAT${types.at(-1)}`, subject);
}

/** Clusters that the content takes. */
export function clustersFor(root: FolderItem, type: FatType, sectorsPerCluster: number): number {
  const unit = sectorsPerCluster * SECTOR;
  let count = 0;
  for (const folder of folders(root)) {
    if (folder !== root || type === 32) count += Math.max(1, Math.ceil((folder.slots * SLOT) / unit));
    for (const item of folder.items) if (!item.isFolder) count += Math.ceil(item.entry.size / unit);
  }
  return count;
}

interface Shape {
  readonly type: FatType;
  readonly floppy: boolean;
  readonly sectorsPerCluster: number;
  readonly rootSlots: number;
  readonly heads: number;
  readonly sectorsPerTrack: number;
}

function floppyGeometry(root: FolderItem, { type = 12 }: Wanted, subject: string): Geometry {
  if (type === 32) refuse(root, 'a floppy with FAT32: there is none', subject);
  for (const [sectorsPerTrack, sectorsPerCluster] of [
    [18, 1],
    [36, type === 16 ? 1 : 2],
  ] as const) {
    const rootSlots = alignUp(Math.max(224, root.slots), SECTOR / SLOT);
    const shape = { type, floppy: true, sectorsPerCluster, rootSlots, heads: 2, sectorsPerTrack };
    const geometry = fill(shape, sectorsPerTrack * 2 * 80);
    const fits = geometry.clusters >= clustersFor(root, type, sectorsPerCluster);
    if (fits && geometry.clusters >= FEWEST_CLUSTERS[type] && geometry.clusters <= MOST_CLUSTERS[type])
      return geometry;
  }
  return refuse(root, 'a floppy of 2.88 MB', subject);
}

function diskGeometry(root: FolderItem, type: FatType, sectorsPerCluster: number): Geometry | undefined {
  const needed = clustersFor(root, type, sectorsPerCluster);
  const rootSlots = type === 32 ? 0 : alignUp(Math.max(512, root.slots), SECTOR / SLOT);
  const shape = { type, floppy: false, sectorsPerCluster, rootSlots, heads: 16, sectorsPerTrack: 63 };
  const track = shape.heads * shape.sectorsPerTrack;
  const usual = fill(shape, (type === 12 ? 64 : 1024) * track);
  const isUsual = usual.clusters >= needed && usual.clusters <= MOST_CLUSTERS[type];
  if (isUsual && usual.clusters >= FEWEST_CLUSTERS[type]) return usual;
  const clusters = Math.max(needed, FEWEST_CLUSTERS[type]);
  const overhead = 2 * fatSectors(type, clusters) + rootSlots / 16 + 2 * PARTITION_START + 32;
  const larger = fill(shape, alignUp(overhead + clusters * sectorsPerCluster, track));
  return larger.clusters <= MOST_CLUSTERS[type] && larger.total <= MBR_LIMIT ? larger : undefined;
}

/** As many clusters as fit into so many sectors. */
function fill(shape: Shape, total: number): Geometry {
  const { rootSlots, ...rest } = shape;
  const partition = shape.floppy ? 0 : PARTITION_START;
  const reserved = shape.type === 32 ? 32 : 1;
  const rootLength = (rootSlots * SLOT) / SECTOR;
  const room = total - partition - reserved - rootLength;
  let clusters = Math.floor(room / shape.sectorsPerCluster);
  let fatLength = fatSectors(shape.type, clusters);
  while (clusters * shape.sectorsPerCluster + 2 * fatLength > room) {
    clusters = Math.floor((room - 2 * fatLength) / shape.sectorsPerCluster);
    if (clusters * shape.sectorsPerCluster + 2 * fatLength <= room) break;
    fatLength = fatSectors(shape.type, clusters);
  }
  const dataStart = partition + reserved + 2 * fatLength + rootLength;
  return { ...rest, clusters, partition, reserved, fatLength, rootLength, dataStart, total };
}

function fatSectors(type: FatType, clusters: number): number {
  return Math.ceil(((clusters + 2) * type) / 8 / SECTOR);
}

function refuse(root: FolderItem, what: string, subject: string): never {
  let bytes = 0;
  for (const folder of folders(root))
    for (const item of folder.items) if (!item.isFolder) bytes += item.entry.size;
  const text = `Cannot show folder "${subject}" as ${what}: its files have ${formatSize(bytes)}`;
  throw new BlockError('EFBIG', text, { path: subject });
}
