import type { MappingDriver } from '../../../../src/block/driver.ts';
import type {
  ChangeNote,
  SnapshotCapability,
  SnapshotInfo,
} from '../../../../src/block/snapshot-capability.ts';
import { BlockError } from '../../../../src/block/errors.ts';
import type { ErrnoCode } from '../../../../src/block/errors.ts';
import type { DiskParts } from '../disk.ts';
import { plainSnapshot } from '../info.ts';
import { Mutex } from '../mutex.ts';
import { SNAPSHOT_TABLE_MAX } from '../snapshots.ts';
import type { Snapshot } from '../snapshots.ts';
import { AllocatedSizes } from './allocated-size.ts';
import { SnapshotChange } from './change.ts';
import { noteChanges } from './changes.ts';
import type { DiskTables } from './changes.ts';
import { encodeSnapshot, newExtra } from './entry.ts';
import { findSnapshot } from './find.ts';
import { switchMetadata, writeTables } from './switch.ts';
import type { SwitchParts } from './switch.ts';
import { readSnapshotL1, SnapshotDisk } from './view.ts';

const SNAPSHOTS_MAX = 65536;
/** What QEMU keeps of a name. */
const NAME_MAX = 255;

/** The snapshots inside an open image. Contract: SnapshotCapability. */
export class InternalSnapshots implements SnapshotCapability {
  private readonly disk: () => DiskParts;
  private readonly resizing: (size: number) => Promise<void>;
  private readonly sizes = new AllocatedSizes();
  /** One change at a time, and no view is opened meanwhile. */
  private readonly turns = new Mutex();
  /** Views that are open, by who has them. */
  private readonly views = new Map<SnapshotDisk, { id: string; user: string }>();

  /**
   * @param disk the parts as they are now: a reopen changes them
   * @param resizing called before the disk becomes one of another size
   */
  constructor(disk: () => DiskParts, resizing: (size: number) => Promise<void>) {
    this.disk = disk;
    this.resizing = resizing;
  }

  list(): SnapshotInfo[] {
    return this.disk().snapshots.snapshots.map(plainSnapshot);
  }

  create(name: string): Promise<SnapshotInfo> {
    return this.turns.run(() => this.createNow(name));
  }

  apply(idOrName: string): Promise<void> {
    return this.turns.run(() => this.applyNow(idOrName));
  }

  delete(idOrName: string): Promise<void> {
    return this.turns.run(() => this.deleteNow(idOrName));
  }

  view(idOrName: string, user = 'somebody'): Promise<MappingDriver> {
    return this.turns.run(() => this.viewNow(idOrName, user));
  }

  allocatedSize(idOrName: string): Promise<number> {
    return this.turns.run(() =>
      this.sizes.of(this.disk().image, this.find(`measure snapshot "${idOrName}"`, idOrName)),
    );
  }

  noteChanges(since: string, until: string | undefined, note: ChangeNote): Promise<void> {
    return this.turns.run(() => this.noteChangesNow(since, until, note));
  }

  /** The image is closed. */
  close(): void {
    for (const view of this.views.keys()) view.vanish();
  }

  private async createNow(name: string): Promise<SnapshotInfo> {
    const action = `create snapshot "${name}"`;
    const parts = this.writable(action);
    this.refuseName(action, name);
    const described = describeNew(parts, name);
    this.refuseTooMany(action, described);
    await switchMetadata(parts, action, (counts) =>
      new SnapshotChange(parts, counts).create(({ offset, entries }) => ({
        ...described,
        l1Offset: offset,
        l1Entries: entries,
      })),
    );
    return plainSnapshot(described);
  }

  private async applyNow(idOrName: string): Promise<void> {
    const action = `apply snapshot "${idOrName}"`;
    const parts = this.writable(action);
    const snapshot = this.find(action, idOrName);
    if (snapshot.diskSize !== parts.image.size) await this.resizing(snapshot.diskSize);
    await switchMetadata(parts, action, (counts) => new SnapshotChange(parts, counts).apply(snapshot));
  }

  private async deleteNow(idOrName: string): Promise<void> {
    const action = `delete snapshot "${idOrName}"`;
    const parts = this.writable(action);
    const snapshot = this.find(action, idOrName);
    const users = [...this.views.values()].filter(({ id }) => id === snapshot.id).map(({ user }) => user);
    if (users.length > 0) this.refuse('EBUSY', action, `${users.join(', ')} reads it`);
    await switchMetadata(parts, action, (counts) => new SnapshotChange(parts, counts).delete(snapshot));
    this.sizes.forget();
  }

  private async viewNow(idOrName: string, user: string): Promise<MappingDriver> {
    const snapshot = this.find(`open snapshot "${idOrName}"`, idOrName);
    const view: SnapshotDisk = await SnapshotDisk.open(this.disk().image, snapshot, () => {
      this.views.delete(view);
    });
    this.views.set(view, { id: snapshot.id, user });
    return view;
  }

  private async noteChangesNow(since: string, until: string | undefined, note: ChangeNote): Promise<void> {
    const { image, reader, writer } = this.disk();
    const action = `tell what has changed since snapshot "${since}"`;
    if (image.external) this.refuse('ENOTSUP', action, 'its content is in an external data file');
    const tablesOf = async (idOrName: string): Promise<DiskTables> => {
      const snapshot = this.find(action, idOrName);
      return { l1: await readSnapshotL1(image, snapshot), size: snapshot.diskSize };
    };
    const from = await tablesOf(since);
    if (until === undefined && writer !== undefined) await writeTables(writer);
    const to = until === undefined ? { l1: reader.l1.copy(), size: image.size } : await tablesOf(until);
    await noteChanges(image, from, to, note);
  }

  private find(action: string, idOrName: string): Snapshot {
    const { image, snapshots } = this.disk();
    return findSnapshot(snapshots, idOrName, { action, subject: image.subject });
  }

  /** What a change needs, where the image can have snapshots at all. */
  private writable(action: string): SwitchParts {
    const { image, reader, writer, snapshots } = this.disk();
    if (writer === undefined) return this.refuse('EROFS', action, 'it is open read-only');
    if (image.external)
      this.refuse('ENOTSUP', action, 'images with an external data file can not have internal snapshots');
    if (image.geometry.refcountBits === 1) {
      const what = 'its refcounts have 1 bit, snapshots need at least 2 (refcount_bits) to share clusters';
      this.refuse('ENOTSUP', action, what);
    }
    return { image, reader, writer, snapshots };
  }

  private refuseName(action: string, name: string): void {
    const length = Buffer.byteLength(name);
    if (length < 1 || length > NAME_MAX)
      this.refuse('EINVAL', action, `the name has ${length} bytes, must have 1 to ${NAME_MAX}`);
    if (name.includes('\0')) this.refuse('EINVAL', action, 'the name must not have a NUL character');
    const other = this.list().find((snapshot) => snapshot.name === name || snapshot.id === name);
    if (other === undefined) return;
    const what = other.name === name ? 'a snapshot of that name exists' : `that is the id of "${other.name}"`;
    this.refuse('EEXIST', action, what);
  }

  private refuseTooMany(action: string, added: Snapshot): void {
    const { snapshots, length } = this.disk().snapshots;
    if (snapshots.length >= SNAPSHOTS_MAX)
      this.refuse('EFBIG', action, `it has ${snapshots.length} snapshots, the most there can be`);
    if (length + encodeSnapshot(added).length > SNAPSHOT_TABLE_MAX)
      this.refuse('EFBIG', action, `the table of snapshots would take over ${SNAPSHOT_TABLE_MAX} bytes`);
  }

  private refuse(code: ErrnoCode, action: string, why: string): never {
    throw new BlockError(code, `Cannot ${action} of image "${this.disk().image.subject}": ${why}`);
  }
}

/** A snapshot of the disk as it is now; where its L1 table is comes later. */
function describeNew({ image, snapshots }: SwitchParts, name: string): Snapshot {
  const now = Date.now();
  const id = freeId(snapshots.snapshots);
  return {
    id,
    name,
    idBytes: Buffer.from(id),
    nameBytes: Buffer.from(name),
    l1Offset: 0,
    l1Entries: 0,
    diskSize: image.size,
    vmStateSize: 0,
    vmClockNsec: 0n,
    dateSec: Math.floor(now / 1000),
    dateNsec: (now % 1000) * 1_000_000,
    extra: newExtra(),
  };
}

/** One more than the highest, as QEMU counts; but nothing that could be taken for a name. */
function freeId(snapshots: readonly SnapshotInfo[]): string {
  const names = new Set(snapshots.map(({ name }) => name));
  let id = 1 + Math.max(0, ...snapshots.map((snapshot) => leadingNumber(snapshot.id)));
  while (names.has(`${id}`)) id += 1;
  return `${id}`;
}

function leadingNumber(id: string): number {
  const number = Number(/^\d+/.exec(id)?.[0] ?? 0);
  return Number.isSafeInteger(number) ? number : 0;
}
