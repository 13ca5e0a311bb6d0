/** Damage of entries of L2 tables. */
import { EXTENDED, EXTERNAL, OLD, PLAIN, SECOND, SHARED } from './qcow2-damage-kinds.ts';
import type { DamageKind } from './qcow2-damage-kinds.ts';
import { COMPRESSED, COPIED, CROOKED, FAR } from './qcow2-edit.ts';

export const L2_ENTRIES: DamageKind[] = [
  {
    name: 'an L2 entry that is misaligned, and right without the wrong bits',
    base: PLAIN,
    damage: (edit) => edit.or(edit.entry(1), CROOKED),
    says: /guest offset 65536 \(entry 1 of the L2 table at 262144\) is at 397824, must be at a multiple/,
  },
  {
    name: 'an L2 entry that is misaligned, and wrong in any case',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), edit.u64(edit.entry(0)) | CROOKED),
    says: /entry 1 of the L2 table at 262144\) is at 332288/,
    lost: SECOND,
  },
  {
    name: 'an L2 entry that is misaligned, of version 2',
    base: OLD,
    damage: (edit) => edit.set64(edit.entry(1), edit.u64(edit.entry(0)) | CROOKED),
    says: /entry 1 of the L2 table at 262144\) is at 332288/,
    lost: SECOND,
  },
  {
    name: 'an L2 entry out of the file',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COPIED | FAR),
    says: /entry 1 of the L2 table at 262144\) is at 481036337152, 65536 bytes long, but the file ends/,
    lost: SECOND,
  },
  {
    name: 'an L2 entry over 2^53',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COPIED | 0xf0000000000000n),
    says: /entry 1 of the L2 table at 262144\) is at 67553994410557440/,
    lost: SECOND,
  },
  {
    name: 'an L2 entry with reserved bits',
    base: PLAIN,
    damage: (edit) => edit.or(edit.entry(1), 0x0300000000000002n),
    says: /entry 1 of the L2 table at 262144\) is 0x8300000000060002: it has reserved bits set/,
  },
  {
    name: 'zeroes whose place is misaligned',
    base: PLAIN,
    damage: (edit) => edit.or(edit.entry(1), CROOKED | 1n),
    says: /entry 1 of the L2 table at 262144\) is at 397824/,
    lost: SECOND,
  },
  {
    name: 'the zero flag in version 2',
    base: OLD,
    damage: (edit) => edit.or(edit.entry(1), 1n),
    says: /has the zero flag, which version 2 does not have/,
    unseenByQemu: true,
  },
  {
    name: 'an L2 entry without the flag of unshared clusters',
    base: PLAIN,
    damage: (edit) => edit.clear(edit.entry(0), COPIED),
    says: /entry 0 of the L2 table at 262144 does not say that its cluster's refcount is one, which it is/,
  },
  {
    name: 'an L2 entry with that flag, wrongly',
    base: SHARED,
    damage: (edit) => edit.or(edit.entry(2), COPIED),
    says: /entry 2 of the L2 table at \d+ says that its cluster's refcount is one, which it is not/,
  },
  {
    name: 'two entries that share a cluster',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), edit.u64(edit.entry(0))),
    says: /In use: cluster 5 has refcount 1, but 2 references/,
    changed: SECOND,
  },
  {
    name: 'two entries that share a cluster, and refcounts that can not say so',
    base: { options: 'refcount_bits=1' },
    damage: (edit) => edit.set64(edit.entry(1), edit.u64(edit.entry(0))),
    says: /entry 1 of the L2 table at \d+\) names cluster 5, which has as many references as 1 bits can count/,
    changed: SECOND,
  },
  {
    name: 'data where a refcount block is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COPIED | BigInt(edit.refcountBlock)),
    says: /refcount block 0 at 131072 is used for something else as well/,
    changed: SECOND,
  },
  {
    name: 'data where the refcount table is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COPIED | BigInt(edit.refcountTable)),
    says: /In use: cluster 1 has refcount 1, but 2 references/,
    changed: SECOND,
  },
  {
    name: 'data where the L1 table is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COPIED | BigInt(edit.l1)),
    says: /In use: cluster 3 has refcount 1, but 2 references/,
    changed: SECOND,
  },
  {
    name: 'data where an L2 table is',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COPIED | BigInt(edit.l2())),
    says: /In use: cluster 4 has refcount 1, but 2 references/,
    changed: SECOND,
  },
  {
    name: 'a compressed cluster out of the file',
    base: PLAIN,
    damage: (edit) => edit.set64(edit.entry(1), COMPRESSED | FAR),
    says: /entry 1 of the L2 table at 262144\) is at 481036337152, 512 bytes long, but the file ends/,
    lost: SECOND,
  },
  {
    name: 'a compressed cluster with the flag of unshared ones',
    base: PLAIN,
    damage: (edit) => edit.or(edit.entry(32), COPIED),
    says: /entry 32 of the L2 table at 262144\) is compressed and has the flag of unshared clusters/,
  },
];

export const EXTENDED_ENTRIES: DamageKind[] = [
  {
    name: 'subclusters both allocated and zero',
    base: EXTENDED,
    damage: (edit) => edit.or(edit.entry(1, 16) + 8, 0xffff00000000n),
    says: /entry 1 of the L2 table at 262144\) has subclusters both allocated and zero/,
  },
  {
    name: 'subclusters without a cluster',
    base: EXTENDED,
    damage: (edit) => edit.set64(edit.entry(1, 16), 0n),
    says: /entry 1 of the L2 table at 262144\) has subclusters allocated, but no place/,
    lost: SECOND,
  },
  {
    name: 'subclusters of a misaligned cluster',
    base: EXTENDED,
    damage: (edit) => edit.set64(edit.entry(1, 16), edit.u64(edit.entry(0, 16)) | CROOKED),
    says: /entry 1 of the L2 table at 262144\) is at 332288/,
    lost: SECOND,
  },
  {
    name: 'a compressed cluster with a bitmap',
    base: EXTENDED,
    damage: (edit) => edit.set64(edit.entry(32, 16) + 8, 3n),
    says: /entry 32 of the L2 table at 262144\) is compressed and has a subcluster bitmap/,
  },
  {
    name: 'an entry that is not where it is in the data file',
    base: EXTERNAL,
    damage: (edit) => edit.or(edit.entry(1), 0x50000n),
    says: /is at 327680 of the data file, must be at 65536/,
    unseenByQemu: true,
  },
  {
    name: 'a misaligned entry of the data file',
    base: EXTERNAL,
    damage: (edit) => edit.or(edit.entry(1), CROOKED),
    says: /entry 1 of the L2 table at 262144\) is at 70144/,
  },
  {
    name: 'a compressed cluster in a data file',
    base: EXTERNAL,
    damage: (edit) => edit.set64(edit.entry(1), COMPRESSED | 0x50000n),
    says: /entry 1 of the L2 table at 262144\) is compressed, which can't be with an external data file/,
  },
  {
    name: 'a flag that is missing beside a data file',
    base: EXTERNAL,
    damage: (edit) => edit.clear(edit.entry(1), COPIED),
    says: /entry 1 of the L2 table at 262144 does not say/,
  },
];
