/** Counts of clusters: those of sparse files of many terabytes as well as those of small ones. */
import test from 'ava';
import { ClusterCounts } from '../../drivers/format/qcow2/check/cluster-counts.ts';
import { Random, seed } from '../helpers/random.ts';

const BASES = [0, 2 ** 14 - 3, 2 ** 31 - 2, 2 ** 32, 2 ** 32 + 5, 2 ** 40];

test('a cluster beyond 2^32 is not taken for another one', (t) => {
  const counts = new ClusterCounts('image');
  t.true(counts.tryAdd(2 ** 32 + 5, 1, 3));
  t.is(counts.get(2 ** 32 + 5), 1);
  t.is(counts.get(5), 0);
  t.is(counts.end, 2 ** 32 + 6);
});

test('the quick way counts as the other one does, wherever it does at all', (t) => {
  const random = new Random(seed(9));
  const counts = new ClusterCounts('image');
  const model = new Map<number, number>();
  for (let round = 0; round < 5000; round += 1) {
    const cluster = random.pick(BASES) + random.below(6);
    const more = 1 + random.below(2);
    const before = model.get(cluster) ?? 0;
    const most = random.pick([1, 3, 65535]);
    if (counts.tryAdd(cluster, more, most)) t.true(before + more <= Math.min(most, 3));
    else counts.set(cluster, before + more);
    model.set(cluster, before + more);
  }
  const out = new Float64Array(8);
  for (const base of BASES) {
    counts.copy(base, out);
    for (const [index, count] of out.entries()) {
      t.is(count, model.get(base + index) ?? 0);
      t.is(counts.get(base + index), count);
    }
  }
});
