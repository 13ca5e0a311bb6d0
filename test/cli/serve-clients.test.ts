import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { QmpClient, serve } from '../helpers/serve.ts';
import { until } from '../helpers/until.ts';

const MiB = 1 << 20;

const BAD = {
  'a stray word': 'help\r\n',
  'a broken object': '{"execute": \n}',
  'deep nesting': `{"execute": ${'['.repeat(100_000)}`,
  'a huge string': `{"execute": "${'x'.repeat(5 * MiB)}"}`,
  'a huge name': `{"execute": "${'x'.repeat(MiB)}"}`,
  'not text': Buffer.from([0xff, 0xfe, 0x7b, 0x00, 0x80, 0x7d]),
  'half a request': '{"execute": "quit"',
  'prototype of an object':
    '{"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": "x", "__proto__": {"a": 1}}}',
  'deep options': `{"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": "x", "file": ${'{"file":'.repeat(500)}1${'}'.repeat(500)}}}`,
};

test('bad input is an error to that client alone', async (t) => {
  const { client, socket } = await serve(t);
  for (const [name, input] of Object.entries(BAD)) {
    const other = connect(socket);
    other.on('error', () => undefined);
    let said = '';
    other.on('data', (text: Buffer) => (said += text.toString()));
    other.write('{"execute": "qmp_capabilities"}');
    other.write(input);
    if (name === 'half a request') await sleep(100);
    else await until(() => said.includes('"error"'), `an error of ${name}`);
    other.destroy();
    t.like(await client.run('query-status'), { running: true }, name);
  }
  t.deepEqual(await client.run('query-named-block-nodes'), []);
});

test('a thousand clients at once, some of which read nothing', async (t) => {
  const { client, socket, child } = await serve(t);
  const sockets = await Promise.all(
    Array.from({ length: 1000 }, async (_, index) => {
      const other = connect(socket);
      other.on('error', () => undefined);
      await new Promise((resolve) => other.once('connect', resolve));
      if (index % 2 === 0) other.pause();
      other.write('{"execute": "qmp_capabilities"}{"execute": "query-commands"}');
      return other;
    }),
  );
  t.like(await client.run('query-status'), { running: true });
  const last = await QmpClient.connect(t, socket);
  t.like(await last.run('query-status'), { running: true });
  for (const other of sockets) other.destroy();
  // Descriptors of clients that are gone are closed.
  const isClosed = async (): Promise<boolean> => (await readdir(`/proc/${child.pid}/fd`)).length < 100;
  await until(isClosed, 'descriptors that are closed');
  t.is(child.exitCode, null);
});

test('a client that floods without reading is given up, nobody else waits', async (t) => {
  const { client, socket, child } = await serve(t);
  const flood = connect(socket);
  flood.on('error', () => undefined);
  flood.pause();
  const text = '{"execute": "query-qmp-schema"}'.repeat(2000);
  flood.write(`{"execute": "qmp_capabilities"}${text}`);
  for (let count = 0; count < 20; count += 1) {
    t.like(await client.run('query-status'), { running: true });
    await sleep(20);
  }
  const { rss } = {
    rss: Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${child.pid}/status`, 'utf8'))?.[1]),
  };
  t.true(rss < 400_000, `${rss} KiB`);
  flood.destroy();
});
