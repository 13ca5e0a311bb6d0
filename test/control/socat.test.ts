/** A client that nobody here wrote, socat, talks to our server and to qemu-storage-daemon: what it gets is the same. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import { storageDaemon } from '../helpers/storage-daemon.ts';
import { canRun } from '../helpers/tools.ts';

const file = (name: string): object => ({ driver: 'file', filename: name });

/** Names of files are relative: both servers run in the folder. */
const SCRIPT: readonly (readonly [string, object?])[] = [
  ['qmp_capabilities'],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 'disk', file: file('disk.qcow2') }],
  ['block-export-add', { type: 'fuse', id: 'e0', 'node-name': 'disk', mountpoint: 'mnt', writable: true }],
  ['query-block-exports'],
  ['blockdev-snapshot-internal-sync', { device: 'disk', name: 'then' }],
  ['blockdev-snapshot-delete-internal-sync', { device: 'disk', name: 'nope' }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 'over', backing: null, file: file('over.qcow2') }],
  ['blockdev-snapshot', { node: 'disk', overlay: 'over' }],
  ['block-export-del', { id: 'e0' }],
  ['query-block-exports'],
  ['blockdev-del', { 'node-name': 'disk' }],
  ['blockdev-del', { 'node-name': 'over' }],
  ['blockdev-del', { 'node-name': 'disk' }],
  ['nope'],
  ['quit'],
];

interface Message {
  readonly QMP?: object;
  readonly event?: string;
  readonly error?: { readonly class: string; desc: string };
}

/** What socat prints when the script is typed into it, each line when the one before has had its time. */
async function transcript(folder: string, pause: string): Promise<Message[]> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'disk.qcow2'), '16M']);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'over.qcow2'), '16M']);
  await writeFile(join(folder, 'mnt'), '');
  const lines = SCRIPT.map(([execute, given], id) =>
    JSON.stringify({ execute, ...(given === undefined ? {} : { arguments: given }), id }),
  );
  const typed = `while read -r line; do printf '%s\\n' "$line"; ${pause}; done | socat -t 20 - UNIX-CONNECT:qmp.sock`;
  const { stdout } = await run('sh', ['-c', typed], { cwd: folder, input: `${lines.join('\n')}\n` });
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Message);
}

/** Ours says who uses a node; QEMU has other words where it is a backing node. */
const IN_USE = /^Node '?(\w+)'? (is in use by|is busy: node is used as backing hd of) .*/;
const shortened = (message: Message): Message => {
  const { error } = message;
  if (error === undefined) return message;
  return { ...message, error: { ...error, desc: error.desc.replace(IN_USE, 'Node $1 is in use') } };
};

test('socat adds, exports, takes snapshots, deletes and quits', async (t) => {
  if (!canRun(t, 'socat', 'qemu-storage-daemon', 'qemu-img')) return;
  const theirs = await storageDaemon(t);
  // QEMU has ears for one client at a time.
  theirs.client.socket.destroy();
  await theirs.client.closed();
  const ours = await serve(t);
  const expected = await transcript(theirs.folder, 'sleep 0.2');
  const found = await transcript(ours.folder, 'sleep 0.2');
  const answers = (all: Message[]): Message[] => all.filter(({ QMP, event }) => (QMP ?? event) === undefined);
  t.is(answers(found).length, SCRIPT.length);
  t.deepEqual(answers(found).map(shortened), answers(expected).map(shortened));
  const events = (all: Message[]): unknown[] => all.flatMap(({ event }) => event ?? []);
  t.deepEqual(events(found), events(expected));
  t.is(await ours.ended(), 0);
  await run('qemu-img', ['check', '-q', join(ours.folder, 'disk.qcow2')]);
});

test('socat that has said all at once gets every answer', async (t) => {
  if (!canRun(t, 'socat', 'qemu-img')) return;
  const { folder, child } = await serve(t);
  const ended = once(child, 'exit');
  const all = await transcript(folder, ':');
  t.is(all.filter((message) => 'return' in message || 'error' in message).length, SCRIPT.length);
  await ended;
});
