/**
 * Where exports are mounted. A mount on a regular file shows one disk; a mount on a directory has a file for each export
 * that names it, and goes when the last of them goes.
 */
import { mountTree } from '../../../mount/mount.ts';
import type { Mounted } from '../../../mount/mount.ts';
import { Directory } from '../../../mount/tree.ts';
import type { DirectoryItem } from '../../../mount/tree.ts';
import { BlockError } from '../../block/errors.ts';
import { inspectMountPoint } from '../../sys/fuse-mountpoint.ts';
import type { DiskExport } from './disk-export.ts';
import { letsOthersIn } from './disk-export.ts';

export interface Place {
  /** As the table of mounts has it. */
  readonly path: string;
  /** The file that shows the export. */
  fileOf(disk: DiskExport): string;
  /** Undefined until the mount is made. */
  readonly mounted: Mounted | undefined;
}

interface OwnPlace extends Place {
  mounted: Mounted | undefined;
  readonly folder: Directory | undefined;
  readonly disks: Set<DiskExport>;
}

export class MountPoints {
  private readonly places = new Map<string, OwnPlace>();
  private readonly onGone: (disk: DiskExport) => void;

  /** @param onGone an export lost its mount by other ways than `remove`: somebody has unmounted it */
  constructor(onGone: (disk: DiskExport) => void) {
    this.onGone = onGone;
  }

  /** Shows an export at its mount point. Rejects with nothing changed. One call at a time. */
  async add(disk: DiskExport): Promise<void> {
    const { path, kind } = await inspectMountPoint(disk.spec.mountpoint);
    const shared = this.places.get(path);
    if (shared !== undefined) {
      joinFolder(shared, disk);
      return;
    }
    const folder = kind === 'directory' ? new Directory({}, new Views(() => place.disks)) : undefined;
    const place: OwnPlace = {
      path,
      folder,
      mounted: undefined,
      disks: new Set([disk]),
      fileOf: ({ name }) => (folder === undefined ? path : `${path}/${name}`),
    };
    folder?.add(disk.name, disk.file);
    disk.place = place;
    try {
      place.mounted = await mount(place, disk);
    } catch (error) {
      disk.place = undefined;
      throw error;
    }
    this.places.set(path, place);
    void place.mounted.closed.then(() => {
      this.gone(place);
    });
  }

  /** Ends the mount of an export. EBUSY, nothing changed, while somebody uses it, unless `lazy`. */
  async remove(disk: DiskExport, lazy: boolean): Promise<void> {
    const place = this.places.get(disk.place?.path ?? '');
    if (place === undefined || !place.disks.has(disk) || place.mounted === undefined) return;
    const { mounted } = place;
    if (place.disks.size > 1) {
      if (!lazy && mounted.isUsed(disk.file)) {
        throw new BlockError('EBUSY', `Cannot end ${disk.fuse.label}: its file is open`);
      }
      leaveFolder(place, disk);
      await mounted.invalidate(disk.file);
      return;
    }
    await mounted.unmount(lazy);
    place.disks.delete(disk);
    await mounted.closed;
    disk.place = undefined;
  }

  private gone(place: OwnPlace): void {
    this.places.delete(place.path);
    for (const disk of place.disks) {
      disk.place = undefined;
      this.onGone(disk);
    }
    place.disks.clear();
  }
}

/** What is shown in a folder beside the disks themselves: their partitions. */
class Views {
  private readonly disks: () => Iterable<DiskExport>;

  constructor(disks: () => Iterable<DiskExport>) {
    this.disks = disks;
  }

  async lookup(name: string): Promise<Directory | undefined> {
    for (const { views } of this.disks()) {
      const found = await views.lookup(name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  async list(): Promise<readonly DirectoryItem[]> {
    const lists = [...this.disks()].map(({ views }) => views.list());
    return (await Promise.all(lists)).flat();
  }
}

function mount(place: OwnPlace, disk: DiskExport): Promise<Mounted> {
  const { spec, node } = disk;
  return mountTree({
    mountpoint: place.path,
    root: place.folder ?? disk.file,
    source: node.filename.startsWith('/') ? node.filename : (spec.imageName ?? node.name),
    allowOther: letsOthersIn(spec) ? 'on' : 'off',
    options: spec.mountWords,
    passthrough: disk.mayPassThrough,
    transport: spec.transport ?? 'dev-fuse',
  });
}

function joinFolder(place: OwnPlace, disk: DiskExport): void {
  const [first] = place.disks;
  const refuse = (why: string): never => {
    throw new BlockError('EBUSY', `Cannot mount ${disk.fuse.label} at "${place.path}": ${why}`);
  };
  if (place.folder === undefined) refuse(`there already is a FUSE export, ${first?.fuse.label ?? 'another'}`);
  if (first !== undefined && letsOthersIn(first.spec) !== letsOthersIn(disk.spec))
    refuse('the directory is mounted with another allow-other');
  place.folder?.add(disk.name, disk.file);
  place.disks.add(disk);
  disk.place = place;
}

function leaveFolder(place: OwnPlace, disk: DiskExport): void {
  place.folder?.remove(disk.name);
  place.disks.delete(disk);
  disk.place = undefined;
}
