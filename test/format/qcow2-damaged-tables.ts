/** Damage of L1 tables, refcounts, snapshots and bitmaps. */
import { ALL, BITMAP, PLAIN, SECOND, SHARED, SMALL } from './qcow2-damage-kinds.ts';
import type { DamageKind } from './qcow2-damage-kinds.ts';
import { COPIED, CROOKED, FAR } from './qcow2-edit.ts';

export const L1_ENTRIES: DamageKind[] = [
  {
    name: 'an L1 entry that is misaligned, and right without the wrong bits',
    base: PLAIN,
    damage: (edit) => edit.or(edit.l1, CROOKED),
    says: /the L2 table of entry 0 of the L1 table is at 266752, must be a multiple/,
    countsDiffer: true,
  },
  {
    name: 'an L1 entry that is misaligned, and wrong in any case',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.l1, COPIED | BigInt(edit.l1) | CROOKED),
    says: /the L2 table of entry 0 of the L1 table is at 201216, must be a multiple/,
    countsDiffer: true,
    lost: ALL,
  },
  {
    name: 'an L1 entry out of the file',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.l1, COPIED | FAR),
    says: /the L2 table of entry 0 of the L1 table is at 481036337152, 65536 bytes long, but the file ends/,
    lost: ALL,
  },
  {
    name: 'an L1 entry with reserved bits',
    base: PLAIN,
    damage: (edit) => edit.or(edit.l1, 0x4000000000000002n),
    says: /entry 0 of the L1 table is 0xc000000000040002: it has reserved bits set/,
  },
  {
    name: 'an L1 entry with nothing but a flag',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.l1, COPIED),
    says: /entry 0 of the L1 table is 0x8000000000000000: it has flags, but no L2 table/,
    countsDiffer: true,
    lost: ALL,
  },
  {
    name: 'an L1 entry without the flag of unshared tables',
    base: PLAIN,
    damage: (edit) => edit.clear(edit.l1, COPIED),
    says: /L1 entry 0 does not say that its cluster's refcount is one/,
  },
  {
    name: 'an L1 entry with that flag, wrongly',
    base: SHARED,
    damage: (edit) => edit.or(edit.l1, COPIED),
    says: /L1 entry 0 says that its cluster's refcount is one, which it is not/,
  },
  {
    name: 'two L1 entries with one L2 table',
    base: SMALL,
    damage: (edit) => edit.set64(edit.l1 + 8, edit.u64(edit.l1)),
    says: /In use: cluster \d+ has refcount 1, but 2 references/,
    countsDiffer: true,
    changed: [32768, 65536],
  },
  {
    name: 'an L2 table where the refcount table is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.l1, COPIED | BigInt(edit.refcountTable)),
    says: /the L2 table of entry 0 of the L1 table is in cluster 1, which holds the refcount table/,
    countsDiffer: true,
    lost: ALL,
  },
  {
    name: 'an L2 table where a refcount block is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.l1, COPIED | BigInt(edit.refcountBlock)),
    says: /the L2 table of entry 0 of the L1 table is in cluster 2, which holds a refcount block/,
    countsDiffer: true,
    lost: ALL,
  },
  {
    name: 'an L2 table where the L1 table is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.l1, COPIED | BigInt(edit.l1)),
    says: /the L2 table of entry 0 of the L1 table is in cluster 3, which holds the L1 table/,
    countsDiffer: true,
    lost: ALL,
  },
  {
    name: 'an L1 table out of the file',
    base: PLAIN,
    damage: (edit) => edit.set64(40, FAR),
    says: /the L1 table is at 481036337152, 8 bytes long, but the file ends/,
    isFinal: true,
  },
];

export const REFCOUNTS: DamageKind[] = [
  {
    name: 'a leaked cluster',
    base: PLAIN,
    damage: (edit) => {
      edit.set64(edit.entry(1), 0n);
    },
    says: /Leaked cluster 6 has refcount 1, but 0 references/,
    changed: SECOND,
  },
  {
    name: 'a refcount of 0 in use',
    base: PLAIN,
    damage: (edit) => edit.refcount(6, 0),
    says: /In use: cluster 6 has refcount 0, but 1 references/,
  },
  {
    name: 'a refcount that is too low',
    base: SHARED,
    damage: (edit) => edit.refcount(7, 1),
    says: /In use: cluster 7 has refcount 1, but 3 references/,
  },
  {
    name: 'a refcount that is too high',
    base: PLAIN,
    damage: (edit) => edit.refcount(6, 3),
    says: /Leaked cluster 6 has refcount 3, but 1 references/,
  },
  {
    name: 'a refcount table without its block',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.refcountTable, 0n),
    says: /In use: cluster 0 has refcount 0, but 1 references/,
  },
  {
    name: 'a refcount block that is misaligned',
    base: PLAIN,
    damage: (edit) => edit.or(edit.refcountTable, CROOKED),
    says: /refcount block 0 is at 135680, must be a multiple/,
  },
  {
    name: 'a refcount table entry with reserved bits',
    base: PLAIN,
    damage: (edit) => edit.or(edit.refcountTable, 2n),
    says: /entry 0 of the refcount table is 131074: reserved bits are set/,
  },
  {
    name: 'a refcount block out of the file',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.refcountTable, FAR),
    says: /refcount block 0 is at 481036337152, 65536 bytes long, but the file ends/,
  },
  {
    name: 'a refcount block in two places of the table',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.refcountTable + 8, BigInt(edit.refcountBlock)),
    says: /refcount block 1 at 131072 is used for something else as well/,
  },
  {
    name: 'a refcount block where an L2 table is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.refcountTable + 8, BigInt(edit.l2())),
    says: /refcount block 1 at 262144 is used for something else as well/,
  },
  {
    name: 'a refcount table that is not there',
    base: PLAIN,
    damage: (edit) => edit.set64(48, FAR),
    says: /the refcount table is at 481036337152, 65536 bytes long, but the file ends/,
  },
  {
    name: 'a refcount table that is misaligned',
    base: PLAIN,
    damage: (edit) => edit.or(48, CROOKED),
    says: /the refcount table is said to be at 70144, 1 clusters long, where none can be/,
    countsDiffer: true,
  },
  {
    name: 'a refcount table without a length',
    base: PLAIN,
    damage: (edit) => edit.bytes.writeUInt32BE(0, 56),
    says: /In use: cluster 0 has refcount 0/,
  },
  {
    name: 'a refcount table of too great a length',
    base: PLAIN,
    damage: (edit) => edit.bytes.writeUInt32BE(1000, 56),
    says: /the refcount table is said to be at 65536, 1000 clusters long/,
    countsDiffer: true,
  },
];

export const LISTS: DamageKind[] = [
  {
    name: 'a snapshot whose L1 table is misaligned',
    base: SHARED,
    damage: (edit) => edit.or(edit.snapshots, CROOKED),
    says: /snapshot 0 \(id "1", name "s1"\) can't be used: its L1 table is at \d+, must be a multiple/,
  },
  {
    name: 'a snapshot whose L1 table is out of the file',
    base: SHARED,
    damage: (edit) => edit.set64(edit.snapshots, FAR),
    says: /snapshot 0 \(id "1", name "s1"\) can't be used: its L1 table is at 481036337152, 8 bytes long/,
    snapshots: ['s2'],
  },
  {
    name: 'a snapshot whose L1 table is too large',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt32BE(0x7fffffff, edit.secondSnapshot + 8),
    says: /snapshot 1 \(id "2", name "s2"\) can't be used: its L1 table has 2147483647 entries/,
    snapshots: ['s1'],
  },
  {
    name: "a snapshot whose L1 table is the disk's",
    base: SHARED,
    damage: (edit) => edit.set64(edit.snapshots, BigInt(edit.l1)),
    says: /snapshot 0 \(id "1", name "s1"\) can't be used: its L1 table is where the L1 table is/,
    countsDiffer: true,
    snapshots: ['s2'],
  },
  {
    name: "an entry of a snapshot's L1 table out of the file",
    base: SHARED,
    damage: (edit) => edit.set64(edit.place(edit.snapshots), FAR),
    says: /the L2 table of entry 0 of the L1 table of snapshot 0 \(id "1", name "s1"\) is at 481036337152/,
    lostSnapshot: 's1',
  },
  {
    name: 'a snapshot with a wrong length of its name',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt16BE(60000, edit.snapshots + 14),
    says: /snapshot 1 \(id "", name ""\) has 0 bytes of extra data, must have at least 16/,
  },
  {
    name: 'a snapshot with a wrong length of its id',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt16BE(60000, edit.snapshots + 12),
    says: /snapshot 1 \(id "", name ""\) has 0 bytes of extra data, must have at least 16/,
  },
  {
    name: 'a snapshot with too much extra data',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt32BE(2000, edit.snapshots + 36),
    says: /snapshot 0 .* has 2000 bytes of extra data/,
    countsDiffer: true,
  },
  {
    name: 'a snapshot without extra data',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt32BE(0, edit.secondSnapshot + 36),
    says: /snapshot 1 .* has 0 bytes of extra data, must have at least 16/,
  },
  {
    name: 'a snapshot table that is misaligned',
    base: SHARED,
    damage: (edit) => edit.or(64, CROOKED),
    says: /the snapshot table is at \d+, must be a multiple/,
    countsDiffer: true,
  },
  {
    name: 'a snapshot table out of the file',
    base: SHARED,
    damage: (edit) => edit.set64(64, FAR),
    says: /the snapshot table is at 481036337152, 80 bytes long, but the file ends/,
  },
  {
    name: 'more snapshots than there can be',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt32BE(70000, 60),
    says: /the image has 70000 snapshots, must have at most 65536/,
    countsDiffer: true,
  },
  {
    name: 'more snapshots than there are',
    base: SHARED,
    damage: (edit) => edit.bytes.writeUInt32BE(3, 60),
    says: /snapshot 2 \(id "", name ""\) has 0 bytes of extra data, must have at least 16/,
  },
  {
    name: 'a bitmap directory out of the file',
    base: BITMAP,
    damage: (edit) => edit.set64(edit.bitmapDirectoryField, FAR),
    says: /the bitmap directory is at 481036337152 and has 32 bytes, but the file ends/,
    countsDiffer: true,
  },
  {
    name: 'a bitmap of a wrong type',
    base: BITMAP,
    damage: (edit) => {
      edit.bytes[edit.bitmapDirectory + 16] = 7;
    },
    says: /bitmap "b0" is of type 7, must be 1/,
    countsDiffer: true,
  },
  {
    name: 'a bitmap table that is misaligned',
    base: BITMAP,
    damage: (edit) => edit.or(edit.bitmapDirectory, CROOKED),
    says: /the table of bitmap "b0" is at \d+, must be at a multiple/,
    countsDiffer: true,
  },
];
