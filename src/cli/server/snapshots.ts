/** The folder `<node>.snapshots`: every snapshot inside the image of a mounted disk as a read-only file of its own. */
import { createHash } from 'node:crypto';
import { BlockFile } from '../../../mount/block-file.ts';
import { FuseExport } from '../../../mount/export.ts';
import { Directory } from '../../../mount/tree.ts';
import type { DirectoryItem, DirectorySource } from '../../../mount/tree.ts';
import type { Child } from '../../block/child.ts';
import type { SnapshotCapability, SnapshotInfo } from '../../block/snapshot-capability.ts';
import { BlockError } from '../../block/errors.ts';
import type { Graph } from '../../block/graph.ts';
import { nodeWithSnapshots, snapshotsOf } from '../../block/internal-snapshots.ts';
import type { Node } from '../../block/node.ts';
import { Permission } from '../../block/permissions.ts';
import { LazyView } from './lazy-view.ts';
import { safeNames } from './safe-names.ts';

export interface DiskWithSnapshots {
  readonly graph: Graph;
  /** Its node is the disk's, whichever that is by now. */
  readonly child: Child;
  /** Of the disk, as its file has it. */
  readonly name: string;
  readonly file: BlockFile;
  /** Whether somebody has a file open. */
  readonly isUsed: (file: BlockFile) => boolean;
}

interface Entry {
  readonly info: SnapshotInfo;
  readonly file: BlockFile;
  readonly view: LazyView;
  readonly target: FuseExport;
}

/** Shown in the folder above while there is a snapshot. A snapshot stays the same file as long as it exists. */
export class SnapshotFolder implements DirectorySource {
  private readonly disk: DiskWithSnapshots;
  private readonly folder: Directory;
  private entries = new Map<string, Entry>();
  private shownNode: Node | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(disk: DiskWithSnapshots) {
    this.disk = disk;
    this.folder = new Directory(
      { fleeting: true },
      {
        lookup: async (name) => (await this.current()).get(name)?.file,
        list: async () => [...(await this.current())].map(([name, { file }]) => ({ name, inode: file })),
      },
    );
  }

  /** For the folder above. */
  async lookup(name: string): Promise<Directory | undefined> {
    return name === this.name && this.isShown ? this.folder : undefined;
  }

  async list(): Promise<readonly DirectoryItem[]> {
    return this.isShown ? [{ name: this.name, inode: this.folder }] : [];
  }

  /** Before a snapshot is deleted: EBUSY while its file is open. */
  async release(id: string): Promise<void> {
    for (const [name, { info, file, view }] of this.entries) {
      if (info.id !== id) continue;
      if (this.disk.isUsed(file)) {
        const what = `Cannot delete snapshot "${info.name}": its file "${this.name}/${name}" is open`;
        throw new BlockError('EBUSY', what, { node: this.disk.child.node.name });
      }
      await view.close();
    }
  }

  /** Closes what is open; nobody can reach it any more. Rejects with the first error. */
  async close(): Promise<void> {
    await this.last;
    await this.closeAll([...this.entries.values()]);
    this.entries.clear();
  }

  private get name(): string {
    return `${this.disk.name}.snapshots`;
  }

  private get isShown(): boolean {
    const node = nodeWithSnapshots(this.disk.child.node);
    return node !== undefined && snapshotsOf(node).list().length > 0;
  }

  private current(): Promise<ReadonlyMap<string, Entry>> {
    const next = this.last.then(() => this.refresh());
    this.last = next.catch(() => undefined);
    return next;
  }

  private async refresh(): Promise<ReadonlyMap<string, Entry>> {
    const node = nodeWithSnapshots(this.disk.child.node);
    const before = new Map(node === this.shownNode ? byKey(this.entries.values()) : []);
    const gone = new Set(this.entries.values());
    const next = new Map<string, Entry>();
    const list = node === undefined ? [] : snapshotsOf(node).list();
    const names = safeNames(list);
    for (const [index, info] of list.entries()) {
      const known = before.get(keyOf(info));
      const entry = known ?? (node === undefined ? undefined : await this.make(node, info));
      if (entry === undefined) continue;
      gone.delete(entry);
      next.set(`${names[index] ?? info.id}.raw`, entry);
    }
    this.entries = next;
    this.shownNode = node;
    await this.closeAll([...gone]).catch(() => undefined);
    return next;
  }

  private async make(node: Node, info: SnapshotInfo): Promise<Entry | undefined> {
    const allocated = await allocatedSize(snapshotsOf(node), info);
    if (allocated === undefined) return undefined;
    const target = new FuseExport({
      id: `${this.name}/${info.name}`,
      writable: false,
      growable: false,
      discard: false,
    });
    const view = new LazyView({
      size: info.diskSize,
      open: () => this.openView(node, info, target),
      close: (child) => this.closeView(child),
    });
    target.attach(view);
    const identity = this.disk.file.identity;
    const file = new BlockFile({
      export: target,
      ...identity,
      mode: (identity.mode ?? 0) & 0o444,
      mtime: { sec: info.dateSec, nsec: info.dateNsec },
      ino: inodeNumber(this.name, info),
      fleeting: true,
      allocated: () => allocated,
      allocationUnit: node.limits.allocationUnit,
      properties: { node: node.name, snapshot: info.name, 'snapshot-id': info.id },
      released: () => {
        view.closeSoon();
      },
    });
    return { info, file, view, target };
  }

  private async openView(node: Node, info: SnapshotInfo, target: FuseExport): Promise<Child> {
    const { graph } = this.disk;
    const view = await graph.open({ driver: 'snapshot-access', file: node.name, snapshot: info.id });
    return graph.attachRoot(view, {
      name: target.options.id,
      label: target.label,
      used: Permission.consistentRead,
      hooks: target,
    });
  }

  private async closeView(child: Child): Promise<void> {
    const { graph } = this.disk;
    const { name } = child.node;
    await graph.detach(child);
    await graph.remove(name);
  }

  private async closeAll(entries: readonly Entry[]): Promise<void> {
    const errors: unknown[] = [];
    for (const { view, target } of entries) {
      target.detach();
      await target.drained();
      await view.close().catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** Undefined when it has just been deleted. */
async function allocatedSize(
  snapshots: SnapshotCapability,
  { id }: SnapshotInfo,
): Promise<number | undefined> {
  try {
    return await snapshots.allocatedSize(id);
  } catch (error) {
    if (error instanceof BlockError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function* byKey(entries: Iterable<Entry>): Generator<[string, Entry]> {
  for (const entry of entries) yield [keyOf(entry.info), entry];
}

/** An id is used again when its snapshot is deleted; with the date it means one snapshot for good. */
function keyOf({ id, dateSec, dateNsec }: SnapshotInfo): string {
  return `${id}:${dateSec}.${dateNsec}`;
}

/** The same in each mount of the image under that name: who compares with an earlier backup finds nothing new. */
function inodeNumber(folder: string, info: SnapshotInfo): number {
  const hash = createHash('sha256')
    .update(`${folder}:${keyOf(info)}`)
    .digest();
  return 2 ** 48 + hash.readUIntBE(0, 6);
}
