/**
 * Rates of throttle groups: by the numbers of the pure algorithm, and measured over real time. No request passes while a busy
 * machine does not let this process run, and what that makes a group miss it does not make up for: of such time nothing is wanted.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { throttleDriver } from '../../drivers/filter/throttle.ts';
import { nullCoDriver } from '../../drivers/protocol/null.ts';
import type { Child } from '../../src/block/child.ts';
import type { Graph } from '../../src/block/graph.ts';
import { ThrottleGroup } from '../../src/block/throttle-group.ts';
import { LeakyBucket } from '../../src/util/leaky-bucket.ts';
import { testGraph } from '../helpers/graph.ts';
import { isSoak } from '../helpers/random.ts';

/** Units that pass within the seconds, in requests of one size, each sent as soon as it may. */
function simulate(
  rate: { average: number; max?: number; length?: number },
  unit: number,
  seconds: number,
): number {
  const bucket = new LeakyBucket({ max: 0, length: 1, ...rate }, 0);
  let passed = 0;
  for (let now = 0; now <= seconds * 1000;) {
    const wait = bucket.wait(now);
    if (wait > 0) {
      now += Math.max(wait, 1e-6);
      continue;
    }
    bucket.pour(unit, now);
    passed += unit;
  }
  return passed;
}

const isNear = (t: ExecutionContext, actual: number, wanted: number, share: number, what = ''): boolean =>
  t.true(Math.abs(actual - wanted) <= wanted * share, `${what} ${actual}, wanted ${wanted}`);

test('bucket: the average, after a burst of a tenth of a second', (t) => {
  isNear(t, simulate({ average: 1000 }, 1, 10), 10_100, 0.001);
  isNear(t, simulate({ average: 1000 }, 4096, 100), 100_000, 0.05);
  t.is(new LeakyBucket({ average: 0, max: 0, length: 1 }, 0).wait(0), 0, 'no limit: nothing waits');
});

test('bucket: max alone is a burst of that many at once', (t) => {
  isNear(t, simulate({ average: 1000, max: 5000 }, 1, 0), 5000, 0.001);
  isNear(t, simulate({ average: 1000, max: 5000 }, 1, 10), 15_000, 0.001);
});

test('bucket: max and length are a burst of that rate for that long, and it comes back after a pause', (t) => {
  const rate = { average: 1000, max: 5000, length: 4 };
  isNear(t, simulate(rate, 1, 2), 10_500, 0.01);
  isNear(t, simulate(rate, 1, 20), 20_000 + 20 * 1000, 0.03);
  const bucket = new LeakyBucket(rate, 0);
  bucket.pour(20_000, 0);
  bucket.pour(1, 0);
  isNear(t, bucket.wait(0), 3900, 0.01);
  t.is(bucket.wait(4000), 0);
});

interface Throttled {
  readonly graph: Graph;
  readonly group: ThrottleGroup;
  readonly doors: Child[];
}

async function throttled(
  t: ExecutionContext,
  limits: Record<string, unknown>,
  nodes = 1,
): Promise<Throttled> {
  const graph = testGraph(t, [throttleDriver, nullCoDriver]);
  const group = graph.addObject('throttle-group', 'g', { limits });
  if (!(group instanceof ThrottleGroup)) throw new TypeError('no throttle group');
  const doors: Child[] = [];
  for (let index = 0; index < nodes; index += 1) {
    const file = { driver: 'null-co', size: '1G', 'node-name': `disk${index}` };
    const node = await graph.open({
      driver: 'throttle',
      'throttle-group': 'g',
      file,
      'node-name': `t${index}`,
    });
    doors.push(graph.attachRoot(node, { name: `user ${index}`, used: 15 }));
  }
  return { graph, group, doors };
}

interface Load {
  readonly kind: 'read' | 'write';
  readonly length: number;
  readonly depth: number;
}

/** Longer than this a group has nothing to do without missing something: its burst is a tenth of a second. */
const STALL = 50;

interface Measured {
  readonly count: number;
  /** Seconds of the time in which this process could run. */
  readonly awake: number;
}

/** Requests that pass within the milliseconds, the door being asked for more all the time. */
async function measure(door: Child, { kind, length, depth }: Load, milliseconds: number): Promise<Measured> {
  const bytes = Buffer.alloc(length, 1);
  const start = performance.now();
  const end = start + milliseconds;
  let count = 0;
  let latest = start;
  let stalled = 0;
  const look = (): void => {
    const now = Math.min(performance.now(), end);
    if (now - latest > STALL) stalled += now - latest;
    latest = now;
  };
  const looking = setInterval(look, 5);
  const work = async (): Promise<void> => {
    while (performance.now() < end) {
      const done = kind === 'read' ? door.tryRead(bytes, 0, length, 0) : door.tryWrite(bytes, 0, length, 0);
      if (!done) await (kind === 'read' ? door.read(bytes, 0) : door.write(bytes, 0));
      if (performance.now() < end) count += 1;
    }
  };
  await Promise.all(Array.from({ length: depth }, work));
  clearInterval(looking);
  look();
  return { count, awake: (milliseconds - stalled) / 1000 };
}

/** Not more than the rate allows, and not less in the time that the process had. */
function isRate(
  t: ExecutionContext,
  passed: number,
  { perSecond, awake, share }: { perSecond: number; awake: number; share: number },
): void {
  const [least, most] = [perSecond * awake * (1 - share), perSecond * SECONDS * (1 + share)];
  t.true(passed >= least && passed <= most, `${passed} in ${SECONDS} s, wanted ${least} to ${most}`);
  if (awake < SECONDS) t.log(`${passed} passed, the process could run for ${awake} s`);
}

const SECONDS = isSoak() ? 10 : 3;

const rate = test.macro({
  async exec(t: ExecutionContext, limits: Record<string, unknown>, load: Load, perSecond: number) {
    const { doors } = await throttled(t, limits);
    const [door] = doors;
    if (door === undefined) throw new TypeError('no door');
    await measure(door, load, 300);
    const { count, awake } = await measure(door, load, SECONDS * 1000);
    isRate(t, count, { perSecond, awake, share: 0.05 });
  },
  title: (name = '') => `rate: ${name}`,
});
test(
  'bytes, one request at a time',
  rate,
  { 'bps-total': '4M' },
  { kind: 'read', length: 4096, depth: 1 },
  1024,
);
test('bytes, many requests', rate, { 'bps-write': '16M' }, { kind: 'write', length: 65536, depth: 16 }, 256);
test('operations', rate, { 'iops-read': 500 }, { kind: 'read', length: 512, depth: 8 }, 500);
test(
  'operations by size',
  rate,
  { 'iops-total': 400, 'iops-size': 4096 },
  { kind: 'write', length: 16384, depth: 4 },
  100,
);
test(
  'the strictest of several',
  rate,
  { 'iops-total': 1000, 'bps-read': '1M' },
  { kind: 'read', length: 4096, depth: 4 },
  256,
);

test('what has no limit passes at once, on the fast path', async (t) => {
  const { doors } = await throttled(t, { 'bps-read': 1000 });
  const [door] = doors;
  const bytes = Buffer.alloc(4096);
  t.true(door?.tryWrite(bytes, 0, 4096, 0));
  t.true(door?.tryWrite(bytes, 0, 4096, 4096));
  t.true(door?.tryRead(bytes, 0, 4096, 0), 'the burst');
  t.false(door?.tryRead(bytes, 0, 4096, 0), 'the debt of the burst');
  t.true(door?.tryWrite(bytes, 0, 4096, 0));
});

test('two nodes of one group share it fairly, whatever depth and length their requests have', async (t) => {
  const { doors } = await throttled(t, { 'bps-total': '8M' }, 2);
  const [one, two] = doors;
  if (one === undefined || two === undefined) throw new TypeError('no doors');
  const [deep, small] = await Promise.all([
    measure(one, { kind: 'read', length: 65536, depth: 32 }, SECONDS * 1000),
    measure(two, { kind: 'write', length: 4096, depth: 4 }, SECONDS * 1000),
  ]);
  const [deepBytes, smallBytes] = [deep.count * 65536, small.count * 4096];
  const both = deepBytes + smallBytes;
  isNear(t, deepBytes, both / 2, 0.12, 'deep');
  isNear(t, smallBytes, both / 2, 0.12, 'small');
  isRate(t, both, { perSecond: 8 * 1024 * 1024, awake: Math.min(deep.awake, small.awake), share: 0.06 });
});

test('limits change at run time, for what waits already as well', async (t) => {
  const { group, doors } = await throttled(t, { 'bps-total': 1 });
  const [door] = doors;
  if (door === undefined) throw new TypeError('no door');
  await door.read(Buffer.alloc(65536), 0);
  const waiting = door.read(Buffer.alloc(4096), 0);
  await sleep(50);
  group.setProperty('limits', { 'bps-total': 1024 ** 3 });
  // The debt of 64 KiB at the old rate is 18 hours.
  await t.notThrowsAsync(waiting);
  t.throws(() => group.setProperty('limits', { nonsense: 1 }), { message: /nonsense/ });
  t.throws(() => group.setProperty('x-nonsense', 1), { message: /no such property/ });
  group.setProperty('x-iops-total', 7);
  t.deepEqual(
    [group.limits.rates['iops-total'].average, group.limits.rates['bps-total'].average],
    [7, 1024 ** 3],
  );
});

test('a drained section does not wait for the rate, the rate is kept afterwards', async (t) => {
  const { graph, doors } = await throttled(t, { 'bps-total': 100 });
  const [door] = doors;
  if (door === undefined) throw new TypeError('no door');
  const requests = Array.from({ length: 16 }, (_, index) => door.write(Buffer.alloc(256 * 1024), index));
  // At this rate the requests would take 12 hours.
  await t.notThrowsAsync(graph.replace(graph.node('t0'), graph.node('disk0')));
  await Promise.all(requests);
  await t.notThrowsAsync(door.write(Buffer.alloc(1024 * 1024), 0), 'not throttled any more');
  await graph.replace(graph.node('disk0'), graph.node('t0'));
  t.false(door.tryWrite(Buffer.alloc(10), 0, 10, 0), 'the debt of what was let go');
});

test('reopen moves a node to another group', async (t) => {
  const { graph, group, doors } = await throttled(t, { 'bps-total': 1 });
  graph.addObject('throttle-group', 'fast', {});
  const node = graph.node('t0');
  await graph.reopen([{ node, options: { ...node.options, 'throttle-group': 'fast' } }]);
  t.is(group.user(), undefined);
  await doors[0]?.write(Buffer.alloc(1024 * 1024), 0);
  await t.throwsAsync(graph.reopen([{ node, options: { ...node.options, 'throttle-group': 'nobody' } }]));
  t.is(graph.objects.get('fast')?.user(), 'node "t0"');
});
