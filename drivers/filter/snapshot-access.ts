import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { OpenContext, RequestDriver, SnapshotView } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { ALL_PERMISSIONS, Permission, Role } from '../../src/block/permissions.ts';

/** The view that the node below offers, as a disk of its own. It can be read, and discarded where it is no longer needed. */
class SnapshotAccess implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  private readonly file: Child;

  constructor(file: Child) {
    this.file = file;
  }

  get size(): number {
    return this.view.size;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.view.tryRead(bytes, at, length, offset);
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    return this.view.read(bytes, offset);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.view.discard(offset, length);
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    return this.view.tryStatus(offset, max, out);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Asked for at every use: the node below may be replaced. */
  private get view(): SnapshotView {
    return viewOf(this.file);
  }
}

function viewOf({ snapshot, node }: Child): SnapshotView {
  if (snapshot !== undefined) return snapshot;
  const why = `driver "${node.driver.name}" offers none, copy-before-write does`;
  throw new BlockError('ENOTSUP', `Cannot read a view of node "${node.name}": ${why}`);
}

async function open(context: OpenContext<object>): Promise<RequestDriver> {
  const file = context.child('file');
  viewOf(file);
  return new SnapshotAccess(file);
}

export const snapshotAccessDriver = defineDriver({
  name: 'snapshot-access',
  kind: 'filter',
  summary: 'Shows the view that a copy-before-write node keeps as a disk',
  options: {},
  children: {
    file: { roles: Role.data | Role.primary, required: true, summary: 'The copy-before-write node' },
  },
  open,
  childPermissions: (_name, _roles, parent) => ({
    used: parent.used & Permission.consistentRead,
    shared: ALL_PERMISSIONS,
  }),
});
