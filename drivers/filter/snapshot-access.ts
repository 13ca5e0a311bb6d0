import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { MappingDriver, OpenContext, RequestDriver, SnapshotView } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import { snapshotsOf } from '../../src/block/internal-snapshots.ts';
import { limits } from '../../src/block/limits.ts';
import { defaultPermissions } from '../../src/block/permission-defaults.ts';
import { ALL_PERMISSIONS, Permission, Role } from '../../src/block/permissions.ts';
import { optional, text } from '../../src/block/schema.ts';
import type { OptionEntries, OptionsOf } from '../../src/block/schema.ts';

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

const SNAPSHOT_ACCESS_OPTIONS = {
  snapshot: optional(
    text(
      'Internal snapshot, by id or name, of the image below that is shown; it goes on being written meanwhile',
    ),
  ),
} as const satisfies OptionEntries;

type Options = OptionsOf<typeof SNAPSHOT_ACCESS_OPTIONS>;

async function open(context: OpenContext<Options>): Promise<RequestDriver | MappingDriver> {
  const file = context.child('file');
  const { snapshot } = context.options;
  if (snapshot !== undefined) return openInternal(context, file, snapshot);
  viewOf(file);
  return new SnapshotAccess(file);
}

/** It has what the image does not have allocated from the same backing node, whatever the image gets later. */
async function openInternal(
  context: OpenContext<Options>,
  file: Child,
  snapshot: string,
): Promise<MappingDriver> {
  const view = await snapshotsOf(file.node).view(snapshot, `node "${context.nodeName}"`);
  const isCut = context.givenChild('backing') === null;
  try {
    const given = await context.openNamed('backing', { filename: '', roles: Role.cow });
    const backing = file.node.cow?.node;
    if (given === undefined && !isCut && backing !== undefined) context.attach('backing', Role.cow, backing);
    return view;
  } catch (error) {
    await view.close();
    throw error;
  }
}

export const snapshotAccessDriver = defineDriver({
  name: 'snapshot-access',
  kind: 'filter',
  summary: 'Shows what a node was: the view that copy-before-write keeps, or a snapshot inside an image',
  options: SNAPSHOT_ACCESS_OPTIONS,
  children: {
    file: {
      roles: Role.data | Role.primary,
      required: true,
      summary: 'The copy-before-write node, or the image with the snapshot',
    },
    backing: {
      roles: Role.cow,
      required: false,
      summary:
        'What a snapshot reads where it has nothing allocated; the backing node of the image when left out',
    },
  },
  open,
  childPermissions: (_name, roles, parent, readOnly) =>
    (roles & Role.cow) === 0
      ? { used: parent.used & Permission.consistentRead, shared: ALL_PERMISSIONS }
      : defaultPermissions(roles, parent, readOnly),
});
