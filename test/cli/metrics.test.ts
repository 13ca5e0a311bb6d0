/** What a server tells Prometheus over HTTP. */
import { existsSync, statSync } from 'node:fs';
import { mkdir, open, readFile } from 'node:fs/promises';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { parseEndpointAddress } from '../../src/sys/endpoint-address.ts';
import { checkExposition } from '../helpers/exposition.ts';
import { isMounted } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { serve } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';

interface Reply {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

async function fetchText(options: RequestOptions): Promise<Reply> {
  const asked = request({ agent: false, ...options });
  asked.end();
  const [reply] = (await once(asked, 'response')) as [IncomingMessage];
  return { status: reply.statusCode, type: reply.headers['content-type'], body: await text(reply) };
}

async function mountWithMetrics(t: ExecutionContext, address: string) {
  const folder = await tempDir(t);
  const image = join(folder, 'a.raw');
  const file = await open(image, 'w');
  await file.truncate(1 << 20);
  await file.close();
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  const args = ['mount', '-f', 'raw', '--json', '--metrics', address, image, mountpoint];
  const outcome = await attemptBlockfuse(args, { cwd: folder });
  t.teardown(async () => {
    if (await isMounted(mountpoint)) await blockfuse(['unmount', mountpoint]);
  });
  return { folder, mountpoint, outcome };
}

test('mount --metrics: the loopback address, a read shows, nothing but GET of /metrics', async (t) => {
  const { mountpoint, outcome } = await mountWithMetrics(t, '0');
  const { metrics } = JSON.parse(outcome.stdout) as { metrics: string };
  t.regex(metrics, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
  const { port } = new URL(metrics);
  const at = { host: '127.0.0.1', port };
  const { status, type, body } = await fetchText({ ...at, path: '/metrics' });
  t.is(status, 200);
  t.is(type, 'text/plain; version=0.0.4; charset=utf-8');
  checkExposition(t, body);
  t.regex(body, /^blockfuse_export_size_bytes\{export="mount",node="a",file=".*a\.raw"\} 1048576$/m);
  t.regex(
    body,
    /^blockfuse_node_requests_total\{node="a",driver="raw",file=".*a\.raw",operation="read"\} \d+$/m,
  );
  t.is((await fetchText({ ...at, path: '/' })).status, 404);
  t.is((await fetchText({ ...at, path: '/metrics', method: 'POST' })).status, 405);
  t.is((await fetchText({ ...at, path: '/metrics', method: 'HEAD' })).body, '');
  const list = JSON.parse((await blockfuse(['list', '--json'])).stdout) as { metrics?: string }[];
  t.true(list.some((server) => server.metrics === metrics));
  // Clients that say nothing, or half a request, or do not read, are no trouble for anybody else.
  for (let count = 0; count < 40; count += 1) {
    const socket = connect(Number(port), '127.0.0.1');
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined);
    socket.write(count % 2 === 0 ? 'GET /metr' : 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(50));
    socket.pause();
  }
  t.is((await readFile(join(mountpoint, 'a.raw'))).length, 1 << 20);
  await blockfuse(['unmount', mountpoint]);
});

test('serve --metrics unix:PATH: its owner only, relative to where it was started, gone at the end', async (t) => {
  const served = await serve(t, ['--blockdev', 'null-co,node-name=n0,size=1M', '--metrics', 'unix:m.sock']);
  const socketPath = join(served.folder, 'm.sock');
  t.is(statSync(socketPath).mode & 0o777, 0o600);
  const { body } = await fetchText({ socketPath, path: '/metrics' });
  checkExposition(t, body);
  t.regex(body, /^blockfuse_node_size_bytes\{node="n0",driver="null-co",file=""\} 1048576$/m);
  await served.client.run('quit');
  t.is(await served.ended(), 0);
  t.false(existsSync(socketPath));
});

test('--metrics that can not be had: nothing is mounted', async (t) => {
  const first = await mountWithMetrics(t, 'localhost:0');
  const { metrics } = JSON.parse(first.outcome.stdout) as { metrics: string };
  const { mountpoint, outcome } = await mountWithMetrics(t, new URL(metrics).port);
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /Cannot listen at \\?"127\.0\.0\.1:\d+\\?": .*in use/);
  t.false(await isMounted(mountpoint));
  t.is((await mountWithMetrics(t, 'everywhere')).outcome.code, 2);
});

const address = test.macro((t: ExecutionContext, given: string, wanted: object | undefined) => {
  const parsed = parseEndpointAddress(given);
  t.deepEqual(parsed as object | undefined, wanted);
});

test('address: a port', address, '9100', { kind: 'tcp', host: '127.0.0.1', port: 9100 });
test('address: a port after a colon', address, ':9100', { kind: 'tcp', host: '127.0.0.1', port: 9100 });
test('address: a host', address, 'db.example:80', { kind: 'tcp', host: 'db.example', port: 80 });
test('address: IPv6', address, '[::1]:9100', { kind: 'tcp', host: '::1', port: 9100 });
test('address: a path', address, 'unix:/run/m', { kind: 'unix', path: '/run/m' });
for (const wrong of ['', 'unix:', '70000', 'localhost', '::1:9100', 'a:b:1', '1 2'])
  test(`no address: "${wrong}"`, address, wrong, undefined);
