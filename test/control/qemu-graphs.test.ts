/**
 * The same graphs in qemu-storage-daemon and here: the same edges, with the same permissions. Exports are growable: QEMU's
 * may be truncated whenever they can be written, ours when they are growable.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import type { QmpClient } from '../helpers/serve.ts';
import { storageDaemon } from '../helpers/storage-daemon.ts';
import { canRun } from '../helpers/tools.ts';

type Step = readonly [execute: string, given: Readonly<Record<string, unknown>>];

interface DebugGraph {
  readonly nodes: readonly { readonly id: number; readonly type: string; readonly name: string }[];
  readonly edges: readonly {
    readonly parent: number;
    readonly child: number;
    readonly name: string;
    readonly perm: readonly string[];
    readonly 'shared-perm': readonly string[];
  }[];
}

/** Each edge as a line. Exports have no name in QEMU. */
async function edgesOf(client: QmpClient): Promise<string[]> {
  const { nodes, edges } = (await client.run('x-debug-query-block-graph')) as DebugGraph;
  const names = new Map(nodes.map(({ id, type, name }) => [id, type === 'block-driver' ? name : type]));
  return edges
    .map((edge) => {
      const { name, perm, 'shared-perm': shared } = edge;
      const isRoot = names.get(edge.parent) === 'block-backend';
      const edgeName = isRoot ? 'root' : name;
      const permissions = `uses ${perm.toSorted().join()} shares ${shared.toSorted().join()}`;
      return `${names.get(edge.parent)} -${edgeName}-> ${names.get(edge.child)}: ${permissions}`;
    })
    .sort();
}

const file = (folder: string, name: string, more: object = {}): object => ({
  driver: 'file',
  'node-name': `${name}-file`,
  filename: join(folder, name),
  ...more,
});

const add = (driver: string, name: string, options: object): Step => [
  'blockdev-add',
  { driver, 'node-name': name, ...options },
];

const show = (folder: string, node: string, writable: boolean): Step => [
  'block-export-add',
  {
    type: 'fuse',
    id: 'e0',
    'node-name': node,
    mountpoint: join(folder, 'mnt'),
    writable,
    growable: writable,
  },
];

type Build = (folder: string) => readonly Step[];
const GROUP: Step = ['object-add', { 'qom-type': 'throttle-group', id: 'g' }];

const raw = (folder: string, name: string): Step =>
  add('raw', name, { file: file(folder, 'a.raw', { 'node-name': `${name}-file` }) });

const GRAPHS: Readonly<Record<string, Build>> = {
  'raw, nobody uses it': (folder) => [raw(folder, 'top')],
  'raw, read': (folder) => [raw(folder, 'top'), show(folder, 'top', false)],
  'raw, written': (folder) => [raw(folder, 'top'), show(folder, 'top', true)],
  'qcow2, written': (folder) => [
    add('qcow2', 'top', { file: file(folder, 'a.qcow2') }),
    show(folder, 'top', true),
  ],
  'qcow2, read-only': (folder) => [
    add('qcow2', 'top', { 'read-only': true, file: file(folder, 'a.qcow2') }),
    show(folder, 'top', false),
  ],
  'qcow2 with a backing node': (folder) => [
    add('qcow2', 'base', { 'read-only': true, file: file(folder, 'a.qcow2') }),
    add('qcow2', 'top', { file: file(folder, 'b.qcow2'), backing: 'base' }),
    show(folder, 'top', true),
  ],
  'throttle, written': (folder) => [
    GROUP,
    raw(folder, 'below'),
    add('throttle', 'top', { 'throttle-group': 'g', file: 'below' }),
    show(folder, 'top', true),
  ],
  'throttle, nobody uses it': (folder) => [
    GROUP,
    raw(folder, 'below'),
    add('throttle', 'top', { 'throttle-group': 'g', file: 'below' }),
  ],
  'copy-before-write and its view': (folder) => [
    raw(folder, 'disk'),
    add('qcow2', 'target', { file: file(folder, 'a.qcow2') }),
    add('copy-before-write', 'cbw', { file: 'disk', target: 'target' }),
    show(folder, 'cbw', true),
    add('snapshot-access', 'view', { file: 'cbw' }),
  ],
  'blkdebug with permissions': (folder) => [
    raw(folder, 'below'),
    add('blkdebug', 'top', {
      image: 'below',
      'take-child-perms': ['write'],
      'unshare-child-perms': ['resize'],
    }),
    show(folder, 'top', false),
  ],
  'blkverify, read': (folder) => [
    raw(folder, 'below'),
    add('qcow2', 'tested', { file: file(folder, 'a.qcow2') }),
    add('blkverify', 'top', { raw: 'below', test: 'tested' }),
    show(folder, 'top', true),
  ],
  'quorum, written': (folder) => [
    raw(folder, 'one'),
    add('qcow2', 'two', { file: file(folder, 'a.qcow2') }),
    add('quorum', 'top', { children: ['one', 'two'], 'vote-threshold': 1 }),
    show(folder, 'top', true),
  ],
  'copy-on-read, read': (folder) => [
    add('qcow2', 'base', { 'read-only': true, file: file(folder, 'a.qcow2') }),
    add('qcow2', 'below', { file: file(folder, 'b.qcow2'), backing: 'base' }),
    add('copy-on-read', 'top', { file: 'below' }),
    show(folder, 'top', false),
  ],
  'compress, written': (folder) => [
    add('qcow2', 'below', { file: file(folder, 'a.qcow2') }),
    add('compress', 'top', { file: 'below' }),
    show(folder, 'top', true),
  ],
  'preallocate, written': (folder) => [
    add('preallocate', 'top', { file: file(folder, 'a.raw') }),
    show(folder, 'top', true),
  ],
};

async function build(client: QmpClient, folder: string, make: Build): Promise<string[]> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'a.qcow2'), '1M']);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'b.qcow2'), '1M']);
  await run('qemu-img', ['create', '-q', '-f', 'raw', join(folder, 'a.raw'), '1M']);
  await writeFile(join(folder, 'mnt'), '');
  for (const step of make(folder)) await client.run(...step);
  return edgesOf(client);
}

/** What was copied is read through the same edge, so it asks to be consistent. QEMU reads it without asking. */
const TARGET = [
  'cbw -target-> target: uses write',
  'cbw -target-> target: uses consistent-read,write',
] as const;

for (const [name, make] of Object.entries(GRAPHS)) {
  test.serial(`edges and permissions: ${name}`, async (t) => {
    if (!canRun(t, 'qemu-storage-daemon', 'qemu-img')) return;
    const theirs = await storageDaemon(t);
    const ours = await serve(t);
    const expected = await build(theirs.client, theirs.folder, make);
    t.deepEqual(
      await build(ours.client, ours.folder, make),
      expected.map((edge) => edge.replace(...TARGET)),
    );
  });
}

const COMMANDS = `blockdev-add blockdev-del blockdev-reopen blockdev-create x-blockdev-change block_resize blockdev-snapshot
  blockdev-snapshot-sync blockdev-snapshot-internal-sync blockdev-snapshot-delete-internal-sync change-backing-file transaction
  block-dirty-bitmap-add block-dirty-bitmap-remove block-dirty-bitmap-clear block-dirty-bitmap-enable block-dirty-bitmap-disable
  block-dirty-bitmap-merge block-export-add block-export-del query-block-exports query-named-block-nodes query-block
  query-blockstats x-debug-query-block-graph block-set-write-threshold object-add object-del qom-list qom-get qom-set
  query-jobs job-dismiss quit add-fd remove-fd query-fdsets getfd closefd query-qmp-schema query-commands query-version`;
const EVENTS =
  'BLOCK_EXPORT_DELETED BLOCK_IO_ERROR BLOCK_IMAGE_CORRUPTED BLOCK_WRITE_THRESHOLD JOB_STATUS_CHANGE QUORUM_FAILURE QUORUM_REPORT_BAD';

interface SchemaEntry {
  readonly name: string;
  readonly 'meta-type': string;
  readonly 'arg-type'?: string;
  readonly members?: readonly { readonly name: string; readonly default?: null }[];
}

/** Arguments by name with whether they may be left out; of a command that both have. */
function argumentsOf(schema: readonly SchemaEntry[], command: string): Map<string, boolean> {
  const found = schema.find((entry) => entry['meta-type'] === 'command' && entry.name === command);
  const type = schema.find(({ name }) => name === found?.['arg-type']);
  return new Map(type?.members?.map((member) => [member.name, 'default' in member]));
}

/** Options of exports, drivers and objects, which are theirs. */
const LEFT_OUT = new Set(['block-export-add', 'blockdev-add', 'object-add']);

test('every command and event is in query-qmp-schema, with the arguments that QEMU has', async (t) => {
  const { client } = await serve(t);
  const schema = (await client.run('query-qmp-schema')) as SchemaEntry[];
  const named = (kind: string): Set<string> =>
    new Set(schema.filter((entry) => entry['meta-type'] === kind).map(({ name }) => name));
  const commands = (await client.run('query-commands')) as { name: string }[];
  for (const name of COMMANDS.split(/\s+/)) {
    t.true(named('command').has(name), name);
    t.true(
      commands.some((command) => command.name === name),
      name,
    );
  }
  t.deepEqual([...named('command')].sort(), commands.map(({ name }) => name).sort());
  t.deepEqual([...named('event')].sort(), EVENTS.split(' ').sort());
  if (!canRun(t, 'qemu-storage-daemon')) return;
  const theirs = await storageDaemon(t);
  const their = (await theirs.client.run('query-qmp-schema')) as SchemaEntry[];
  for (const { name } of commands) {
    if (LEFT_OUT.has(name) || argumentsOf(their, name).size === 0) continue;
    t.deepEqual(
      Object.fromEntries(argumentsOf(schema, name)),
      Object.fromEntries(argumentsOf(their, name)),
      name,
    );
  }
});
