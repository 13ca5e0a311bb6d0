import type { Child } from '../../../src/block/child.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import type { FilterDriver, OpenContext, SnapshotView } from '../../../src/block/driver.ts';
import type { DirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { ALL_PERMISSIONS, Permission, Role } from '../../../src/block/permissions.ts';
import type { PermissionPair } from '../../../src/block/permissions.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { choice, integer, optional, size, text } from '../../../src/block/schema.ts';
import { isPowerOfTwo } from '../../../src/util/sizes.ts';
import { Copier } from './copier.ts';
import { View } from './view.ts';

const SMALLEST_CLUSTER = 65536;
const LARGEST_CLUSTER = 2 * 1024 * 1024;

const OPTIONS = {
  'on-cbw-error': optional(
    choice(
      ['break-guest-write', 'break-snapshot'],
      'What fails when the old content can not be copied: the write, or the view',
    ),
    'break-guest-write',
  ),
  'cbw-timeout': optional(
    integer('Seconds that a copy may hold up a write; 0 for any', 0, 2 ** 31 / 1000),
    0,
  ),
  'bitmap.node': optional(text('Node of the bitmap')),
  'bitmap.name': optional(
    text('Dirty bitmap: only what it marks now is copied and can be read in the view, in whole clusters'),
  ),
  'min-cluster-size': optional(size('Least bytes that are copied at once, a power of two')),
};
type Options = OptionsOf<typeof OPTIONS>;

/** Passes everything on, after copying to the target what is about to be overwritten for the first time. */
class CopyBeforeWrite implements FilterDriver {
  readonly family = 'filter';
  readonly snapshot: SnapshotView;
  private readonly file: Child;
  private readonly copier: Copier;

  constructor(file: Child, copier: Copier) {
    this.file = file;
    this.copier = copier;
    this.snapshot = new View(copier);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.copier.trySettle(offset, length) && this.file.tryWrite(bytes, at, length, offset);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    await this.copier.settle(offset, bytes.length);
    await this.file.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.copier.settle(offset, length);
    await this.file.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.copier.settle(offset, length);
    await this.file.discard(offset, length);
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    if (size < this.copier.size) await this.copier.settle(size, this.copier.size - size);
    await this.file.resize(size, shrink);
  }

  async close(): Promise<void> {
    await this.copier.finished();
  }
}

const CHANGING = Permission.write | Permission.resize;

/** The source is written through here only, once anybody uses this node; before, it may be in use as it is. */
function childPermissions(name: string, parent: PermissionPair): PermissionPair {
  if (name === 'target') {
    const used = Permission.consistentRead | Permission.write;
    return { used, shared: ALL_PERMISSIONS & ~Permission.resize };
  }
  if (parent.used === 0) return parent;
  const read = (parent.used & Permission.write) === 0 ? 0 : Permission.consistentRead;
  return { used: parent.used | read, shared: parent.shared & ~CHANGING };
}

function open(context: OpenContext<Options>): Promise<FilterDriver> {
  const { options, nodeName } = context;
  const source = context.child('file');
  const target = context.child('target');
  if (target.size < source.size) {
    const text = `Cannot open node "${nodeName}": target "${target.node.name}" has ${target.size} bytes, must have the ${source.size} of "${source.node.name}"`;
    throw new BlockError('EINVAL', text);
  }
  const rules = {
    cluster: clusterOf(context, target),
    onError: options['on-cbw-error'],
    timeout: options['cbw-timeout'],
  };
  const copier = new Copier(source, target, rules, wantedPart(context, source));
  return Promise.resolve(new CopyBeforeWrite(source, copier));
}

function clusterOf({ options, nodeName }: OpenContext<Options>, target: Child): number {
  const least = options['min-cluster-size'] ?? SMALLEST_CLUSTER;
  if (!isPowerOfTwo(least)) {
    const text = `Cannot open node "${nodeName}": min-cluster-size is ${least}, must be a power of two`;
    throw new BlockError('EINVAL', text);
  }
  const unit = Math.min(LARGEST_CLUSTER, target.node.limits.allocationUnit);
  return Math.max(SMALLEST_CLUSTER, least, unit);
}

/** What is written to the bitmap later does not matter: the view is of this moment. */
function wantedPart(context: OpenContext<Options>, source: Child): DirtyBitmap | undefined {
  const { options, nodeName } = context;
  const { 'bitmap.node': node, 'bitmap.name': name } = options;
  if (node === undefined && name === undefined) return undefined;
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot open node "${nodeName}": ${why}`);
  };
  if (node === undefined) return refuse('option "bitmap.node" is missing');
  if (name === undefined) return refuse('option "bitmap.name" is missing');
  const found = context.bitmap(node, name);
  if (found.size !== source.size)
    refuse(
      `bitmap "${name}" is of ${found.size} bytes, must be of the ${source.size} of "${source.node.name}"`,
    );
  return found;
}

export const copyBeforeWriteDriver = defineDriver({
  name: 'copy-before-write',
  kind: 'filter',
  summary: 'Keeps a view of a disk as it is now while it goes on being written',
  options: OPTIONS,
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The disk that is written' },
    target: { roles: Role.data, required: true, summary: 'Where old content is kept, as large as the disk' },
  },
  open,
  childPermissions: (name, _roles, parent) => childPermissions(name, parent),
});
