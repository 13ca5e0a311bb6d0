/** The folder `<node>.partitions`: every partition of a mounted disk as a file `<number>.raw` of its own. */
import { BlockFile } from '../../../mount/block-file.ts';
import { FuseExport } from '../../../mount/export.ts';
import { Directory } from '../../../mount/tree.ts';
import type { DirectoryItem, DirectorySource } from '../../../mount/tree.ts';
import { Windows } from '../../../mount/windows.ts';
import type { Invalidate } from '../../../mount/windows.ts';
import type { Child } from '../../block/child.ts';
import type { Graph } from '../../block/graph.ts';
import type { Node } from '../../block/node.ts';
import { Permission } from '../../block/permissions.ts';
import { readPartitionTable } from '../../partition/table.ts';
import type { Partition } from '../../partition/table.ts';

/** How long a table that was read is believed though nothing was written here: the kernel may write past this server. */
const BELIEVED_MS = 1000;

export interface PartitionedDisk {
  readonly graph: Graph;
  /** Reads the table; its node is the disk's, whichever that is by now. */
  readonly child: Child;
  /** Of the disk, as its file has it. */
  readonly name: string;
  readonly file: BlockFile;
  readonly invalidate: Invalidate;
  readonly warn: (message: string) => void;
}

interface Entry {
  readonly partition: Partition;
  readonly file: BlockFile;
}

/**
 * Shown in the folder above while the disk has a partition table; follows the table when it changes. A partition that
 * stays where it is stays the same file. One that goes away can be read and written by whoever has it open.
 */
export class PartitionFolder implements DirectorySource {
  private readonly disk: PartitionedDisk;
  private readonly windows: Windows;
  private readonly folder: Directory;
  /** Every door that was ever opened: whoever had a partition open that went away may go on using it. */
  private readonly opened: { readonly child: Child; readonly target: FuseExport }[] = [];
  private entries = new Map<string, Entry>();
  private readGeneration = -1;
  private readAt = 0;
  /** When the disk had been changed last, as its file tells: what the kernel writes past this server shows there. */
  private readTime = '';
  private reading: Promise<void> | undefined;
  private warned = '';

  constructor(disk: PartitionedDisk) {
    this.disk = disk;
    this.windows = new Windows(disk.file, disk.invalidate);
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
    if (name !== this.name) return undefined;
    return (await this.current()).size > 0 ? this.folder : undefined;
  }

  async list(): Promise<readonly DirectoryItem[]> {
    return (await this.current()).size > 0 ? [{ name: this.name, inode: this.folder }] : [];
  }

  /** Closes the partitions; nobody can reach them any more. Rejects with the first error. */
  async close(): Promise<void> {
    const { graph } = this.disk;
    const errors: unknown[] = [];
    for (const { child, target } of this.opened.splice(0)) {
      target.detach();
      await target.drained();
      const { name } = child.node;
      await graph.detach(child).catch((error: unknown) => errors.push(error));
      await graph.remove(name).catch((error: unknown) => errors.push(error));
    }
    this.entries.clear();
    if (errors.length > 0) throw errors[0];
  }

  private get name(): string {
    return `${this.disk.name}.partitions`;
  }

  private async current(): Promise<ReadonlyMap<string, Entry>> {
    if (this.isOutdated()) {
      this.reading ??= this.refresh().finally(() => {
        this.reading = undefined;
      });
      await this.reading;
    }
    return this.entries;
  }

  private isOutdated(): boolean {
    if (this.disk.child.node.generation !== this.readGeneration) return true;
    return Date.now() - this.readAt > BELIEVED_MS || this.changeTime() !== this.readTime;
  }

  private changeTime(): string {
    const { sec, nsec } = this.disk.file.attributes().mtime;
    return `${sec}.${nsec}`;
  }

  private async refresh(): Promise<void> {
    const { child, file } = this.disk;
    this.readGeneration = child.node.generation;
    this.readAt = Date.now();
    this.readTime = this.changeTime();
    // Through the export, as everything else: a change of the graph holds it back.
    const table = await file.export.run({ cancel: undefined }, readPartitionTable);
    this.tell(table?.warnings ?? []);
    const next = new Map<string, Entry>();
    for (const partition of table?.partitions ?? []) {
      if (partition.extended) continue;
      const name = `${partition.number}.raw`;
      const before = this.entries.get(name);
      const same = before !== undefined && isSamePlace(before.partition, partition);
      next.set(name, same ? before : await this.open(partition));
    }
    for (const [name, { file }] of this.entries) {
      if (next.get(name)?.file !== file) this.windows.remove(file);
    }
    this.entries = next;
  }

  private async open(partition: Partition): Promise<Entry> {
    const { graph, file: disk, child: whole } = this.disk;
    const { node } = whole;
    const { writable, discard } = disk.export.options;
    const { offset, length } = partition;
    const options = { driver: 'raw', file: node.name, offset, size: length, 'read-only': !writable };
    const window = await graph.open({ ...options, discard: discard ? 'unmap' : 'ignore' });
    const target = new FuseExport({
      id: `partition ${partition.number}`,
      writable,
      growable: false,
      discard,
    });
    const child = graph.attachRoot(window, {
      name: target.options.id,
      label: target.label,
      used: Permission.consistentRead | (writable ? Permission.write : 0),
      hooks: target,
    });
    const file = new BlockFile({
      export: target.attach(child),
      ...disk.identity,
      uncached: () => true,
      fleeting: true,
      allocationUnit: node.limits.allocationUnit,
      properties: propertiesOf(node, partition),
    });
    this.windows.add(file, offset, length);
    this.opened.push({ child, target });
    return { partition, file };
  }

  private tell(warnings: readonly string[]): void {
    const text = warnings.join('; ');
    if (text !== '' && text !== this.warned)
      this.disk.warn(`partition table of "${this.disk.name}": ${text}`);
    this.warned = text;
  }
}

function isSamePlace(left: Partition, right: Partition): boolean {
  return left.offset === right.offset && left.length === right.length && left.uuid === right.uuid;
}

function propertiesOf(node: Node, partition: Partition): Record<string, string> {
  const { number, offset, length, type, typeName, name, uuid } = partition;
  return {
    node: node.name,
    partition: String(number),
    offset: String(offset),
    size: String(length),
    type,
    'type-name': typeName,
    uuid,
    ...(name === '' ? {} : { name }),
  };
}
