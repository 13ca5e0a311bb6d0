/**
 * Creating, applying and deleting snapshots: what becomes of each L1 and L2 table.
 *
 *   create   the snapshot takes over the active L1 table and the L2 tables with flags of unshared clusters; the disk goes on
 *            with copies of those without the flags, and shares the rest
 *   apply    the disk goes on with copies, or shares, of the snapshot's tables; what it had before is counted down
 *   delete   what the snapshot names is counted down; tables of the disk whose clusters are unshared by that are copied
 *            with the flags set
 *
 * Counted down to nobody: freed by the writeback that comes after the switch (frees.ts).
 */
import { COPIED_WORD } from '../l2-entry.ts';
import type { Snapshot } from '../snapshots.ts';
import { writeU64 } from '../u64.ts';
import { encodeSnapshot } from './entry.ts';
import type { ShadowRefcounts } from './shadow-refcounts.ts';
import type { NewMetadata, SwitchParts } from './switch.ts';
import { TableWalk } from './table-walk.ts';

export class SnapshotChange {
  private readonly parts: SwitchParts;
  private readonly counts: ShadowRefcounts;
  private readonly walk: TableWalk;

  constructor(parts: SwitchParts, counts: ShadowRefcounts) {
    this.parts = parts;
    this.counts = counts;
    this.walk = new TableWalk(parts.image, counts);
  }

  /** @param describe the snapshot, given where its L1 table is */
  async create(describe: (l1: { offset: number; entries: number }) => Snapshot): Promise<NewMetadata> {
    const { reader, snapshots } = this.parts;
    const old = reader.l1.copy();
    const next = Buffer.from(old);
    for await (const table of this.walk.tables(old)) {
      await this.walk.addAll(table);
      await this.share(next, table);
    }
    const place =
      old.length === 0
        ? { offset: await this.store(Buffer.alloc(8)), entries: 1 }
        : { offset: reader.l1.place, entries: old.length / 8 };
    const list = await this.storeList([...snapshots.snapshots, describe(place)]);
    if (old.length === 0) return { snapshots: list };
    return { l1: { bytes: next, offset: await this.store(next) }, snapshots: list };
  }

  async apply(snapshot: Snapshot): Promise<NewMetadata> {
    const { image, reader } = this.parts;
    const { tableSpan } = image.geometry;
    const old = reader.l1.copy();
    const theirs = await this.readL1(snapshot);
    const next = Buffer.alloc(Math.max(theirs.length, Math.ceil(snapshot.diskSize / tableSpan) * 8));
    theirs.copy(next);
    const kept = new Set<number>();
    const isKept = (index: number, offset: number): boolean => {
      const same = index * 8 < old.length && reader.l1.tableOffset(index) === offset;
      if (!same || reader.l1.isOwn(index)) return false;
      writeEntry(next, index, offset, false);
      kept.add(index);
      return true;
    };
    for await (const table of this.walk.tables(theirs, isKept)) {
      await this.walk.addAll(table);
      await this.share(next, table);
    }
    for await (const table of this.walk.tables(old, (index) => kept.has(index)))
      await this.walk.dropAll(table);
    await this.counts.dropTable(reader.l1.place, old.length, 'other');
    return { l1: { bytes: next, offset: await this.store(next) }, size: snapshot.diskSize };
  }

  async delete(snapshot: Snapshot): Promise<NewMetadata> {
    const { reader, snapshots } = this.parts;
    const theirs = await this.readL1(snapshot);
    for await (const table of this.walk.tables(theirs)) await this.walk.dropAll(table);
    await this.counts.dropTable(snapshot.l1Offset, theirs.length, 'other');
    const list = await this.storeList(snapshots.snapshots.filter((other) => other !== snapshot));
    const old = reader.l1.copy();
    const next = await this.withFlags(old);
    if (next.equals(old)) return { snapshots: list };
    await this.counts.dropTable(reader.l1.place, old.length, 'other');
    return { l1: { bytes: next, offset: await this.store(next) }, snapshots: list };
  }

  /** A table that a snapshot has from now on (or has already): the disk gets a copy without flags, or shares it. */
  private async share(l1: Buffer, table: { bytes: Buffer; offset: number; index: number }): Promise<void> {
    const { clusterSize } = this.parts.image.geometry;
    if (this.walk.clearFlags(table)) {
      writeEntry(l1, table.index, await this.store(table.bytes), true);
      return;
    }
    await this.counts.add(table.offset / clusterSize);
    writeEntry(l1, table.index, table.offset, false);
  }

  /** The active L1 table with the flags as the refcounts are now. */
  private async withFlags(old: Buffer): Promise<Buffer> {
    const { clusterSize } = this.parts.image.geometry;
    const next = Buffer.from(old);
    for await (const table of this.walk.tables(old)) {
      const cluster = table.offset / clusterSize;
      const isOwn = (await this.counts.read(cluster)) === 1;
      if (isOwn && (await this.walk.setFlags(table))) {
        writeEntry(next, table.index, await this.store(table.bytes), true);
        await this.counts.drop(cluster, 'other');
      } else writeEntry(next, table.index, table.offset, isOwn);
    }
    return next;
  }

  private async readL1({ l1Offset, l1Entries }: Snapshot): Promise<Buffer> {
    const bytes = Buffer.alloc(l1Entries * 8);
    if (l1Entries > 0) await this.parts.image.file.read(bytes, l1Offset);
    return bytes;
  }

  private async storeList(snapshots: readonly Snapshot[]): Promise<Required<NewMetadata>['snapshots']> {
    const { image, snapshots: before } = this.parts;
    const { snapshots_offset: oldOffset } = image.header.fields;
    if (before.length > 0) await this.counts.dropTable(oldOffset, before.length, 'other');
    if (snapshots.length === 0) return { snapshots, length: 0, offset: 0 };
    const bytes = Buffer.concat(snapshots.map(encodeSnapshot));
    return { snapshots, length: bytes.length, offset: await this.store(bytes) };
  }

  private async store(bytes: Buffer): Promise<number> {
    const offset = await this.counts.takeTable(bytes.length);
    await this.counts.write(bytes, offset);
    return offset;
  }
}

function writeEntry(l1: Buffer, index: number, offset: number, own: boolean): void {
  writeU64(l1, offset, index * 8);
  if (own) l1.writeUInt32BE(l1.readUInt32BE(index * 8) + COPIED_WORD, index * 8);
}
