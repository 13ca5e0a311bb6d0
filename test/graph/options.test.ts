/** Options trees and what children inherit, as qemu-storage-daemon's users know them. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { quorumDriver } from '../../drivers/filter/quorum/driver.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { nullCoDriver } from '../../drivers/protocol/null.ts';
import { BlockError } from '../../src/block/errors.ts';
import { parseFilename } from '../../src/block/filename.ts';
import type { CommonOptions } from '../../src/block/schema.ts';
import { testGraph } from '../helpers/graph.ts';
import { shape, violations } from './random-graph.ts';

const DRIVERS = [rawDriver, nullCoDriver, quorumDriver];

const refusals: readonly [string, Record<string, unknown>, RegExp][] = [
  ['unknown driver', { driver: 'nonsense' }, /unknown driver "nonsense", known are .*raw/],
  ['no driver', { 'node-name': 'x' }, /option "driver" is missing/],
  ['missing child', { driver: 'raw', 'node-name': 'x' }, /node "x": driver "raw" needs a child "file"/],
  ['unknown option', { driver: 'mem', size: 1, sise: 2 }, /driver "mem" has no option "sise", only size/],
  [
    'option of the wrong kind',
    { driver: 'mem', size: 'big' },
    /option "size" is "big", must be a size in bytes/,
  ],
  ['name taken', { driver: 'mem', 'node-name': 'disk' }, /a node "disk": there is one of that name already/],
  ['bad name', { driver: 'mem', 'node-name': '1x' }, /must be a letter, then at most 30/],
  ['no such node', { driver: 'raw', file: 'nobody' }, /Cannot find node "nobody"/],
  [
    'reference and options',
    { driver: 'raw', file: 'disk', 'file.driver': 'mem' },
    /"file" names node or value "disk" already/,
  ],
  [
    'options and reference',
    { driver: 'raw', 'file.driver': 'mem', file: 'disk' },
    /"file": it is given twice/,
  ],
  ['child that is a number', { driver: 'raw', file: 7 }, /needs a child "file"/],
  [
    'a child that the driver has no use for',
    { driver: 'evicting', size: 1, file: { driver: 'mem' }, backing: 'disk' },
    /has no use for child "backing" here/,
  ],
  ['a prototype', { driver: 'mem', '__proto__.size': 3 }, /"__proto__.size": there is none of that name/],
  [
    'a prototype in JSON',
    JSON.parse('{"driver": "mem", "__proto__": {"size": 3}}') as Record<string, unknown>,
    /there is none of that name/,
  ],
  [
    'an error deep down',
    { driver: 'raw', file: { driver: 'raw', file: { driver: 'mem', x: 1 } } },
    /driver "mem" has no option "x"/,
  ],
  ['list without items', { driver: 'quorum', 'vote-threshold': 1 }, /needs a child "children.0"/],
  [
    'list with a gap',
    { driver: 'quorum', 'vote-threshold': 1, 'children.0.driver': 'mem', 'children.2.driver': 'mem' },
    /needs a child "children.1"/,
  ],
];
for (const [name, options, message] of refusals) {
  test(`refused, and nothing stays behind: ${name}`, async (t) => {
    const graph = testGraph(t, DRIVERS);
    await graph.open({ driver: 'mem', 'node-name': 'disk', size: 4096 });
    const before = shape(graph);
    await t.throwsAsync(graph.open(options), { instanceOf: BlockError, message });
    t.is(shape(graph), before);
    t.is(({} as Record<string, unknown>)['size'], undefined);
  });
}

test('children: by name, inline, dotted, nested, null, as a list', async (t) => {
  const graph = testGraph(t, DRIVERS);
  await graph.open({ driver: 'mem', 'node-name': 'disk', size: 4096 });
  const byName = await graph.open({ driver: 'raw', file: 'disk' });
  const dotted = await graph.open({
    driver: 'raw',
    'file.driver': 'raw',
    'file.file.driver': 'mem',
    'file.file.size': '8k',
  });
  t.is(byName.children.get('file')?.node.name, 'disk');
  t.is(dotted.size, 8192);
  const bare = await graph.open({
    driver: 'evicting',
    size: 4096,
    'has-backing': true,
    file: { driver: 'mem' },
    backing: null,
  });
  t.is(bare.cow, undefined);
  const mem = { driver: 'mem', size: 4096 };
  const listed = await graph.open({ driver: 'quorum', 'vote-threshold': 2, children: [mem, 'disk', mem] });
  t.deepEqual([...listed.children.keys()], ['children.0', 'children.1', 'children.2']);
  t.is(listed.children.get('children.1')?.node.name, 'disk');
  t.deepEqual(violations(graph), []);
});

test('file names: json, plain, protocols, and none of that within an option', (t) => {
  const graph = testGraph(t, DRIVERS);
  const rules = { drivers: graph.drivers };
  t.deepEqual(parseFilename('json:{"driver": "mem", "size": 5}', rules), { driver: 'mem', size: 5 });
  t.deepEqual(parseFilename('a:b', rules), { driver: 'file', filename: 'a:b' });
  t.throws(() => parseFilename('json:[1]', rules), { message: /must be a JSON object/ });
  t.throws(() => parseFilename('json:{', rules), { message: /Cannot read "json:\{"/ });
});

const DEFAULTS: CommonOptions = {
  readOnly: false,
  autoReadOnly: false,
  forceShare: false,
  discard: 'ignore',
  detectZeroes: 'off',
  cacheDirect: false,
  cacheNoFlush: false,
};

interface Inherited {
  readonly file?: Partial<CommonOptions>;
  readonly backing?: Partial<CommonOptions>;
}

/** What the children of an image have when it is opened with `given`; what is not said is as by default. */
const inherits = test.macro({
  async exec(t: ExecutionContext, given: Record<string, unknown>, wanted: Inherited) {
    const graph = testGraph(t, DRIVERS);
    const node = await graph.open({
      driver: 'evicting',
      size: 8192,
      'has-backing': true,
      file: { driver: 'mem' },
      backing: { driver: 'null-co', size: 8192 },
      ...given,
    });
    const of = (name: string): CommonOptions | undefined => node.children.get(name)?.node.common;
    t.deepEqual(of('file'), { ...DEFAULTS, discard: 'unmap', ...wanted.file });
    t.deepEqual(of('backing'), { ...DEFAULTS, discard: 'unmap', readOnly: true, ...wanted.backing });
  },
  title: (name = '') => `inheritance: ${name}`,
});
test('by default', inherits, {}, {});
test(
  'cache',
  inherits,
  { 'cache.direct': 'on', 'cache.no-flush': true },
  {
    file: { cacheDirect: true, cacheNoFlush: true },
    backing: { cacheDirect: true, cacheNoFlush: true },
  },
);
test(
  'auto-read-only, but not to backing files',
  inherits,
  { 'auto-read-only': true },
  { file: { autoReadOnly: true } },
);
test(
  'detect-zeroes and discard stay at the top',
  inherits,
  { 'detect-zeroes': 'unmap', discard: 'unmap' },
  {},
);
test(
  'a child says otherwise',
  inherits,
  { 'cache.direct': true, 'file.cache.direct': 'off', 'backing.read-only': 'off', 'file.discard': 'ignore' },
  {
    file: { discard: 'ignore' },
    backing: { readOnly: false, cacheDirect: true },
  },
);

test('inheritance: read-only and force-share reach the file', async (t) => {
  const graph = testGraph(t, DRIVERS);
  const node = await graph.open({
    driver: 'raw',
    'read-only': 'on',
    'force-share': 'on',
    'file.driver': 'mem',
  });
  const file = node.children.get('file')?.node.common;
  t.deepEqual(file, { ...DEFAULTS, discard: 'unmap', readOnly: true, forceShare: true });
});
