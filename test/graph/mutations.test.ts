/**
 * Thousands of random changes of a graph while guests read and write: whatever is accepted leaves the invariants of graph and
 * permissions as they are and no guest notices; whatever is refused leaves the graph exactly as it was.
 */
import test from 'ava';
import { copyOnReadDriver } from '../../drivers/filter/copy-on-read.ts';
import { delayDriver } from '../../drivers/filter/delay.ts';
import { errorDriver } from '../../drivers/filter/error.ts';
import { logDriver } from '../../drivers/filter/log.ts';
import { throttleDriver } from '../../drivers/filter/throttle.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { nullCoDriver } from '../../drivers/protocol/null.ts';
import type { Graph } from '../../src/block/graph.ts';
import type { Node } from '../../src/block/node.ts';
import { ALL_PERMISSIONS } from '../../src/block/permissions.ts';
import { startContent } from '../helpers/evicting-format.ts';
import { testGraph } from '../helpers/graph.ts';
import { verify } from '../helpers/exercise.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { lockingDriver } from './locking-disk.ts';
import { changed, DISK, Guest, isRefusal, shape, violations } from './random-graph.ts';

const DRIVERS = [
  rawDriver,
  lockingDriver,
  nullCoDriver,
  logDriver,
  errorDriver,
  delayDriver,
  throttleDriver,
  copyOnReadDriver,
];
const STEPS = rounds(10_000, 100_000);
const MOST_NODES = 40;

interface Run {
  readonly graph: Graph;
  readonly random: Random;
  /** What each guest's disk is called; filters and formats come and go above it. */
  readonly guests: Guest[];
  made: number;
}

type Step = (run: Run) => Promise<void>;

const STEP_KINDS: Readonly<Record<string, Step>> = {
  async add({ graph, random, ...run }) {
    if (graph.nodes.size > MOST_NODES) return;
    await graph.open(randomNode({ graph, random, ...run }));
  },
  async delete({ graph, random }) {
    await graph.remove(anyNode(graph, random).name);
  },
  async replace({ graph, random }) {
    const from = anyNode(graph, random);
    const to = anyNode(graph, random);
    if (carriesGuest(from)) return;
    await graph.replace(from, to);
  },
  async insertFilter(run) {
    const { graph, random } = run;
    const below = anyNode(graph, random);
    const filter = await graph.open({ ...randomFilter(run), file: below.name });
    try {
      await graph.replace(below, filter);
    } catch (error) {
      await graph.remove(filter.name);
      throw error;
    }
  },
  async removeFilter({ graph, random }) {
    const filters = [...graph.nodes.values()].filter((node) => node.impl.family === 'filter');
    if (filters.length === 0) return;
    const filter = random.pick(filters);
    await graph.replace(filter, filter.filteredChild().node);
    if (filter.parents.size === 0) await graph.remove(filter.name);
  },
  async setBacking({ graph, random }) {
    const node = anyNode(graph, random);
    if (carriesGuest(node)) return;
    await graph.setBacking(node, random.chance(0.2) ? undefined : anyNode(graph, random));
  },
  async reopen({ graph, random }) {
    const nodes = new Set([anyNode(graph, random), anyNode(graph, random)]);
    const requests = [...nodes]
      .filter((node) => !carriesGuest(node))
      .map((node) => reopening(graph, node, random));
    await graph.reopen(requests);
  },
  async attach({ graph, random }) {
    const shared = random.chance(0.5) ? ALL_PERMISSIONS : random.below(16);
    const root = graph.attachRoot(anyNode(graph, random), {
      name: 'passer-by',
      used: random.below(16),
      shared,
    });
    try {
      graph.setRootPermissions(root, { used: random.below(16), shared: random.below(16) });
    } finally {
      await graph.detach(root);
    }
  },
};

/** Much is added, or there would be little to change. */
const CHOICES = [...Object.entries(STEP_KINDS), ...Array(4).fill(['add', STEP_KINDS['add']])] as [
  string,
  Step,
][];

function anyNode(graph: Graph, random: Random): Node {
  return random.pick([...graph.nodes.values()]);
}

/** Whether a guest's data is in this node or goes through it: then only what keeps the content is tried. */
function carriesGuest(node: Node): boolean {
  return [...node.parents].some(({ parent }) =>
    parent.parentNode === undefined
      ? parent.label.startsWith('export "guest')
      : carriesGuest(parent.parentNode),
  );
}

function randomNode(run: Run): Record<string, unknown> {
  const { graph, random } = run;
  run.made += 1;
  const name = random.chance(0.02) ? anyNode(graph, random).name : `n${run.made}`;
  const common = { 'node-name': name, ...(random.chance(0.1) ? { 'read-only': true } : {}) };
  const file = random.chance(0.5) ? anyNode(graph, random).name : { driver: 'mem', size: DISK };
  const backing = random.chance(0.5) ? anyNode(graph, random).name : null;
  return random.pick([
    { driver: 'mem', size: DISK, ...common },
    { driver: 'null-co', size: DISK, ...common },
    { driver: 'locking', size: DISK, seed: run.made, ...common },
    { driver: 'raw', file: { driver: 'locking', size: DISK, seed: run.made }, ...common },
    { driver: 'raw', file, ...common },
    { driver: 'evicting', size: DISK, 'has-backing': true, file, backing, ...common },
    { ...randomFilter(run), file, ...common },
    { driver: 'nonsense', ...common },
    { driver: 'raw', ...common },
    { driver: 'raw', file: 'nobody', ...common },
  ]);
}

function randomFilter({ random }: Run): Record<string, unknown> {
  return random.pick([
    { driver: 'log' },
    { driver: 'error', length: 0 },
    { driver: 'delay', 'read-ms': random.pick([0, 0, 1]) },
    { driver: 'throttle', 'throttle-group': 'group' },
    { driver: 'copy-on-read' },
  ]);
}

function reopening(
  graph: Graph,
  node: Node,
  random: Random,
): { node: Node; options: Record<string, unknown> } {
  const options: Record<string, unknown> = { ...node.options };
  if (random.chance(0.5)) options['read-only'] = random.chance(0.5);
  if (random.chance(0.2)) options['discard'] = 'unmap';
  if (node.children.has('file') && random.chance(0.3)) options['file'] = anyNode(graph, random).name;
  if ('backing' in node.driver.children && random.chance(0.3))
    options['backing'] = random.chance(0.3) ? null : anyNode(graph, random).name;
  if (random.chance(0.05)) options['nonsense'] = 1;
  return { node, options };
}

/** One change; its refusal is no failure, but must have changed nothing. */
async function step(run: Run): Promise<'done' | 'refused'> {
  const { graph, random } = run;
  const [name, kind] = random.pick(CHOICES);
  const before = shape(graph);
  const numbers = graph.nodes.size;
  try {
    await kind(run);
    return 'done';
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const after = shape(graph);
    if (after !== before && !(name === 'removeFilter' && graph.nodes.size <= numbers))
      throw new Error(`A refused ${name} changed the graph (${String(error)}):\n${changed(before, after)}`, {
        cause: error,
      });
    return 'refused';
  }
}

test(`${STEPS} random changes under load`, async (t) => {
  const ownSeed = seed(41);
  t.log(`seed ${ownSeed}`);
  const random = new Random(ownSeed);
  const graph = testGraph(t, DRIVERS);
  graph.addObject('throttle-group', 'group', { 'x-bps-total': '1G' });
  const guests: Guest[] = [];
  for (const [index, { options, content }] of GUEST_DISKS.entries()) {
    const node = await graph.open({ ...options, 'node-name': `guest${index}` });
    const about = { name: `guest ${index}`, random: new Random(ownSeed + index), hooked: index % 2 === 0 };
    guests.push(new Guest(graph, node, { ...about, ...(content === undefined ? {} : { content }) }));
  }
  const run: Run = { graph, random, guests, made: 0 };
  const count = { done: 0, refused: 0 };
  const started = performance.now();
  for (let index = 0; index < STEPS; index += 1) {
    count[await step(run)] += 1;
    await new Promise(setImmediate);
    const wrong = violations(graph);
    if (wrong.length > 0) throw new Error(`after step ${index}: ${wrong.join('; ')}\n${shape(graph)}`);
    const failed = guests.find(({ failure }) => failure !== undefined);
    if (failed !== undefined)
      throw new Error(`step ${index}: ${failed.door.parent.label}: ${failed.failure}`);
  }
  const seconds = (performance.now() - started) / 1000;
  for (const guest of guests) {
    await guest.stop();
    t.is(guest.failure, undefined);
    await verify(guest.door, guest.model);
  }
  const requests = guests.reduce((sum, guest) => sum + guest.requests, 0);
  t.log(`${count.done} changes, ${count.refused} refused, ${requests} requests, ${seconds.toFixed(1)} s`);
  t.true(count.done > STEPS / 10 && count.refused > STEPS / 10);
  t.true(seconds < (30 * STEPS) / 10_000);
});

const FORMAT = { size: DISK, cluster: 4096, seed: 7 };
const GUEST_DISKS = [
  { options: { driver: 'mem', size: DISK } },
  { options: { driver: 'raw', file: { driver: 'slow', size: DISK } } },
  { options: { driver: 'raw', file: { driver: 'mem', size: DISK } } },
  {
    options: { driver: 'evicting', ...FORMAT, file: { driver: 'slow' } },
    content: startContent(FORMAT, Buffer.alloc(0)),
  },
];
