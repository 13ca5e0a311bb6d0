import { mkdir, readFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { IncomingMessage, ServerResponse } from 'node:http';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { Graph } from '../../src/block/graph.ts';
import { Permission } from '../../src/block/permissions.ts';
import { MIB, mixedDisk, readAll } from '../format/small-image.ts';
import { difference } from '../helpers/model-disk.ts';
import { mountImage } from '../helpers/mounted.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { serveFile, webServer } from '../helpers/web-server.ts';

async function openUrl(
  t: ExecutionContext,
  url: string,
  options: Record<string, unknown> = {},
): Promise<Child> {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  graph.secrets.add('s0', Buffer.from('pass'));
  const node = await graph.open({ driver: 'http', url, 'read-only': true, readahead: 65536, ...options });
  return graph.attachRoot(node, { name: 'test', used: Permission.consistentRead });
}

const disk = mixedDisk(7, 3 * MIB + 512);
const file = (): { content: Buffer; etag: string } => ({ content: Buffer.from(disk), etag: '"one"' });

async function readsRandomly(t: ExecutionContext, child: Child): Promise<void> {
  const random = new Random(seed(93));
  const one = async (): Promise<void> => {
    const length = random.between(1, 150_000);
    const offset = random.below(disk.length - length);
    const bytes = Buffer.alloc(length, 0xdb);
    await child.read(bytes, offset);
    t.is(difference(bytes, disk.subarray(offset, offset + length), offset), undefined);
  };
  await Promise.all(Array.from({ length: 40 }, one));
}

test('http: a file is read by ranges, without HEAD, and what was read is kept', async (t) => {
  const web = await webServer(t, (request, response) => {
    serveFile(file(), request, response);
  });
  const child = await openUrl(t, web.url);
  t.is(child.size, disk.length);
  t.is(difference(await readAll(child, 100_003), disk), undefined);
  const asked = web.log.length;
  t.true(web.log.every((line) => /^GET \/disk bytes=\d+-\d+$/.test(line)));
  t.is(new Set(web.log.slice(1)).size, asked - 1);
  await readsRandomly(t, child);
  t.is(web.log.length, asked);
  t.true(child.tryRead(Buffer.alloc(4096), 0, 4096, MIB));
});

test('http: a sequential reader has the next blocks asked for before it wants them', async (t) => {
  const held: (() => void)[] = [];
  const web = await webServer(t, (request, response) => {
    const answer = (): void => {
      serveFile(file(), request, response);
    };
    if (web.log.length <= 2) answer();
    else held.push(answer);
    // Nobody would be answered if only what is wanted were asked for.
    if (held.length === 4) for (const send of held.splice(0)) send();
    if (web.log.length > 6) for (const send of held.splice(0)) send();
  });
  const child = await openUrl(t, web.url);
  const bytes = Buffer.alloc(65536);
  await child.read(bytes, 0);
  await child.read(bytes, 65536);
  t.is(difference(bytes, disk.subarray(65536, 131072)), undefined);
});

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => boolean;

/** Servers that fail now and then: `handle` says whether it has answered. */
const FLAKY: readonly [string, Handler][] = [
  ['has errors of its own', (_request, response, count) => count % 3 === 1 && ending(response, 503)],
  ['hangs up', (request, _response, count) => count % 3 === 1 && (request.socket.destroy(), true)],
  [
    'hangs up within an answer',
    (_request, response, count) => {
      if (count % 3 !== 1) return false;
      response.writeHead(206, { 'content-range': 'bytes 0-9/10', 'content-length': 1000, etag: '"one"' });
      response.write('half');
      setImmediate(() => response.destroy());
      return true;
    },
  ],
  [
    'asks to come again',
    (_request, response, count) => {
      if (count !== 2) return false;
      response.writeHead(429, { 'retry-after': '0' }).end();
      return true;
    },
  ],
];

function ending(response: ServerResponse, status: number, headers: Record<string, string> = {}): boolean {
  response.writeHead(status, headers).end('no');
  return true;
}

for (const [name, handle] of FLAKY) {
  test(`http: a server that ${name} is asked again`, async (t) => {
    let count = 0;
    const web = await webServer(t, (request, response) => {
      count += 1;
      if (!handle(request, response, count)) serveFile(file(), request, response);
    });
    const child = await openUrl(t, web.url, { readahead: MIB });
    t.is(difference(await readAll(child, MIB), disk), undefined);
  });
}

const REFUSALS: readonly [string, Handler, RegExp][] = [
  [
    'has no such file',
    (_request, response) => ending(response, 404),
    /: the server answers with status 404$/,
  ],
  ['lets nobody in', (_request, response) => ending(response, 401), /status 401$/],
  ['is down', (_request, response) => ending(response, 500), /status 500 \(5 tries\)$/],
  [
    'redirects in circles',
    (_request, response) => ending(response, 302, { location: '/disk' }),
    /over 10 redirects/,
  ],
  [
    'redirects to a file',
    (_request, response) => ending(response, 302, { location: 'file:///etc/passwd' }),
    /must be an http or https URL/,
  ],
  [
    'tells no size',
    (_request, response) => ending(response, 206, { 'content-range': 'bytes 0-1/*' }),
    /does not tell the size/,
  ],
  [
    'ignores ranges of a large file',
    (_request, response) => {
      response.writeHead(200, { 'content-length': String(2 ** 40) });
      response.write(Buffer.alloc(1000));
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(MIB)));
      };
      response.on('drain', more);
      more();
      return true;
    },
    /the server knows no ranges, and the file is larger than the 33554432 bytes/,
  ],
];

for (const [name, handle, message] of REFUSALS) {
  test(`http: a server that ${name} is refused`, async (t) => {
    const web = await webServer(t, (request, response) => {
      handle(request, response, web.log.length);
    });
    const error = await t.throwsAsync(openUrl(t, web.url));
    t.regex(error.message, /^Cannot open "http:\/\/127\.0\.0\.1:\d+\/disk": /);
    t.regex(error.message, message);
  });
}

test('http: a small file comes as a whole from a server without ranges; an empty one is empty', async (t) => {
  const whole = await webServer(t, (_request, response) => {
    response.writeHead(200).end(disk);
  });
  const child = await openUrl(t, whole.url);
  t.is(difference(await readAll(child), disk), undefined);
  t.is(whole.log.length, 1);
  const empty = await webServer(t, (request, response) => {
    serveFile({ content: Buffer.alloc(0), etag: 'x' }, request, response);
  });
  t.is((await openUrl(t, empty.url)).size, 0);
});

const CHANGES: readonly [string, (now: { content: Buffer; etag: string }) => void, RegExp][] = [
  ['another ETag', (now) => (now.etag = '"two"'), /its ETag is "two", was "one"/],
  ['another size', (now) => (now.content = disk.subarray(0, 2 * MIB)), /it has 2097152 bytes, had 3146240/],
];

for (const [name, change, message] of CHANGES) {
  test(`http: a file that has ${name} is another file: EIO from then on`, async (t) => {
    const now = file();
    const web = await webServer(t, (request, response) => {
      serveFile(now, request, response);
    });
    const child = await openUrl(t, web.url);
    await child.read(Buffer.alloc(512), 0);
    change(now);
    const failed = await t.throwsAsync(child.read(Buffer.alloc(512), 3 * MIB));
    t.like(failed, { code: 'EIO' });
    t.regex(
      failed.message,
      /^Cannot read from "http:.*the file has changed on the server since it was opened: /,
    );
    t.regex(failed.message, message);
    Object.assign(now, file());
    await t.throwsAsync(child.read(Buffer.alloc(512), MIB));
  });
}

test('http: a server that drops ranges later is an error that says so', async (t) => {
  const web = await webServer(t, (request, response) => {
    if (web.log.length === 1) serveFile(file(), request, response);
    else response.writeHead(200).end(disk);
  });
  const child = await openUrl(t, web.url);
  const failed = await t.throwsAsync(child.read(Buffer.alloc(512), MIB));
  t.regex(failed.message, /the server ignores ranges now: bytes 1048576 to 1114111 were asked for/);
});

test('http: redirects are followed, credentials stay with the server that they are for', async (t) => {
  const seen: (string | undefined)[] = [];
  const mirror = await webServer(t, (request, response) => {
    seen.push(request.headers.authorization ?? request.headers.cookie);
    serveFile(file(), request, response);
  });
  const web = await webServer(t, (request, response) => {
    t.is(request.headers.authorization, `Basic ${Buffer.from('user:pass').toString('base64')}`);
    t.is(request.headers.cookie, 'a=b');
    response.writeHead(307, { location: mirror.url }).end();
  });
  const options = { username: 'user', 'password-secret': 's0', cookie: 'a=b' };
  const child = await openUrl(t, web.url, options);
  t.is(difference(await readAll(child), disk), undefined);
  t.is(web.log.length, 1);
  t.true(seen.every((header) => header === undefined));
});

test('http: it can not be written, and is not written to by mistake', async (t) => {
  const web = await webServer(t, (request, response) => {
    serveFile(file(), request, response);
  });
  const error = await t.throwsAsync(openUrl(t, web.url, { 'read-only': false }));
  t.regex(error.message, /it can only be read; use read-only=on/);
  const odd = await t.throwsAsync(openUrl(t, web.url, { readahead: 1000 }));
  t.regex(odd.message, /readahead is 1000, must be a multiple of 512/);
});

test('http: an image on a web server is mounted', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const raw = join(folder, 'disk.raw');
  const image = join(folder, 'a.qcow2');
  await run('tee', [raw], { input: disk });
  await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, image]);
  const content = await readFile(image);
  const web = await webServer(t, (request, response) => {
    serveFile({ content, etag: '"a"' }, request, response);
  });
  const folderOfMount = join(folder, 'mnt');
  await mkdir(folderOfMount);
  const mounted = await mountImage(t, web.url, [folderOfMount]);
  t.is(difference(await readFile(mounted.file), disk), undefined);
  await mounted.unmount();
});

test('http: over TLS the certificate is checked, unless told not to', async (t) => {
  if (!canRun(t, 'openssl')) return;
  const folder = await tempDir(t);
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-days', '2', '-keyout', key, '-out', cert];
  await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...subject]);
  const server = createServer(
    { key: await readFile(key), cert: await readFile(cert) },
    (request, response) => {
      serveFile(file(), request, response);
    },
  );
  server.listen(0, '127.0.0.1');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/disk`;
  const refused = await t.throwsAsync(openUrl(t, url, { driver: 'https' }));
  t.regex(refused.message, /self-signed certificate/);
  const child = await openUrl(t, url, { driver: 'https', sslverify: 'off' });
  t.is(difference(await readAll(child), disk), undefined);
});
