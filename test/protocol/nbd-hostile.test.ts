/** Servers that break the protocol: an error that says how, no crash, no hang, no memory on their word. */
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { nbdDriver } from '../../drivers/protocol/nbd/driver.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const u16 = (value: number): Buffer => bytesOf(2, (bytes) => bytes.writeUInt16BE(value));
const u32 = (value: number): Buffer => bytesOf(4, (bytes) => bytes.writeUInt32BE(value));
const u64 = (value: bigint): Buffer => bytesOf(8, (bytes) => bytes.writeBigUInt64BE(value));

function bytesOf(length: number, fill: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(length);
  fill(bytes);
  return bytes;
}

const HELLO = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)]);
const reply = (option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([u64(0x0003e889045565a9n), u32(option), u32(type), u32(data.length), data]);
const ACK = 1;
const exportInfo = (size: bigint): Buffer => Buffer.concat([u16(0), u64(size), u16(0x6d)]);

interface Request {
  readonly command: number;
  readonly cookie: Buffer;
  readonly offset: bigint;
  readonly length: number;
}

interface Script {
  /** What is sent to whoever connects; else a proper handshake. */
  readonly hello?: Buffer;
  readonly go?: Buffer;
  /** Answers a request in use. */
  answer?(request: Request, socket: Socket): void;
}

/** A server that shakes hands (structured replies, base:allocation, 1 MiB) and then does what the test says. */
async function fakeServer(t: ExecutionContext, script: Script): Promise<string> {
  const path = join(await tempDir(t), 's');
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(script.hello ?? HELLO);
    let input = Buffer.alloc(0);
    let inUse = false;
    let greeted = false;
    socket.on('data', (chunk: Buffer) => {
      input = Buffer.concat([input, chunk]);
      if (!greeted && input.length >= 4) {
        greeted = true;
        input = input.subarray(4);
      }
      while (!inUse && input.length >= 16 && input.length >= 16 + input.readUInt32BE(12)) {
        const option = input.readUInt32BE(8);
        input = input.subarray(16 + input.readUInt32BE(12));
        if (option === 10)
          socket.write(reply(10, 4, Buffer.concat([u32(7), Buffer.from('base:allocation')])));
        if (option === 7) {
          inUse = true;
          socket.write(script.go ?? reply(7, 3, exportInfo(1048576n)));
        }
        socket.write(reply(option, ACK));
      }
      while (inUse && input.length >= 28) {
        const request = {
          command: input.readUInt16BE(6),
          cookie: Buffer.from(input.subarray(8, 16)),
          offset: input.readBigUInt64BE(16),
          length: input.readUInt32BE(24),
        };
        input = input.subarray(28 + (request.command === 1 ? request.length : 0));
        script.answer?.(request, socket);
      }
    });
  });
  server.listen(path);
  t.teardown(() => server.close());
  return path;
}

async function open(
  t: ExecutionContext,
  path: string,
  options: Record<string, unknown> = {},
): Promise<Child> {
  const graph = new Graph({ drivers: [nbdDriver] });
  t.teardown(() => graph.close().catch(() => {}));
  const node = await graph.open({ driver: 'nbd', path, ...options });
  const used = node.readOnly ? Permission.consistentRead : ALL_PERMISSIONS & ~Permission.resize;
  return graph.attachRoot(node, { name: 'test', used });
}

const HANDSHAKES: readonly [string, Script, RegExp][] = [
  ['is none', { hello: Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n') }, /it is no NBD server/],
  [
    'speaks the old style',
    { hello: Buffer.concat([Buffer.from('NBDMAGIC'), Buffer.alloc(152)]) },
    /old style/,
  ],
  ['tells no size', { go: Buffer.alloc(0) }, /the server tells no size/],
  ['tells a size over 2^53', { go: reply(7, 3, exportInfo(2n ** 60n)) }, /must be less than 2\^53/],
  [
    'has odd blocks',
    {
      go: Buffer.concat([
        reply(7, 3, exportInfo(1048576n)),
        reply(7, 3, Buffer.concat([u16(3), u32(3000), u32(4096), u32(65536)])),
      ]),
    },
    /smallest block is 3000 bytes/,
  ],
  [
    'gives a huge answer',
    { go: Buffer.concat([u64(0x0003e889045565a9n), u32(7), u32(3), u32(0xffffffff)]) },
    /an answer has 4294967295 bytes/,
  ],
  [
    'answers without end',
    { go: Buffer.concat(Array.from({ length: 300 }, () => reply(7, 3, u16(9)))) },
    /over 256 answers/,
  ],
  ['answers something else', { go: reply(6, 1) }, /something else than was asked/],
];

for (const [name, script, message] of HANDSHAKES) {
  test(`nbd: a server that ${name} is refused`, async (t) => {
    const error = await t.throwsAsync(open(t, await fakeServer(t, script)));
    t.regex(error.message, /^Cannot open NBD export "nbd\+unix:/);
    t.regex(error.message, message);
  });
}

const chunk = (cookie: Buffer, type: number, data: Buffer, flags = 1): Buffer =>
  Buffer.concat([u32(0x668e33ef), u16(flags), u16(type), cookie, u32(data.length), data]);
const piece = (offset: bigint, length: number): Buffer =>
  Buffer.concat([u64(offset), Buffer.alloc(length, 1)]);

type Answer = (request: Request) => Buffer;

const ANSWERS: readonly [string, Answer, RegExp][] = [
  [
    'sends no answer',
    () => Buffer.alloc(64, 0x41),
    /an answer begins with 0x41414141, which breaks the protocol/,
  ],
  ['answers nobody', ({ length }) => chunk(Buffer.alloc(8, 9), 1, piece(0n, length)), /what was not asked/],
  [
    'sends a piece too long',
    ({ cookie, length }) => chunk(cookie, 1, piece(0n, length + 1)),
    /was not asked for/,
  ],
  [
    'sends a piece from before',
    ({ cookie, offset }) => chunk(cookie, 1, piece(offset - 1n, 512)),
    /was not asked for/,
  ],
  [
    'sends too little',
    ({ cookie, offset }) => chunk(cookie, 1, piece(offset, 512)),
    /sent 512 of 4096 bytes/,
  ],
  [
    'sends it twice',
    ({ cookie, offset }) =>
      Buffer.concat([chunk(cookie, 1, piece(offset, 4096), 0), chunk(cookie, 1, piece(offset, 512))]),
    /same bytes twice/,
  ],
  [
    'gives a simple answer',
    ({ cookie }) => Buffer.concat([u32(0x67446698), u32(0), cookie, Buffer.alloc(4096)]),
    /simple answer to a read/,
  ],
  ['gives a status', ({ cookie }) => chunk(cookie, 5, Buffer.alloc(12)), /a status of 12 bytes/],
  [
    'has a huge error text',
    ({ cookie }) => chunk(cookie, 0x8001, Buffer.alloc(9000, 1)),
    /an error of 9000 bytes/,
  ],
];

for (const [name, answer, message] of ANSWERS) {
  test(`nbd: a server that ${name} when it is read fails the read`, async (t) => {
    const path = await fakeServer(t, {
      answer: (request, socket) =>
        void socket.write(request.command === 0 ? answer(request) : Buffer.alloc(0)),
    });
    const child = await open(t, path);
    const error = await t.throwsAsync(child.read(Buffer.alloc(4096), 8192));
    t.like(error, { code: 'EIO' });
    t.regex(error.message, message);
  });
}

test('nbd: a server that hangs up at each request is given up', async (t) => {
  let requests = 0;
  const path = await fakeServer(t, {
    answer: (_request, socket) => {
      requests += 1;
      socket.destroy();
    },
  });
  const child = await open(t, path, { 'reconnect-delay': 60 });
  t.like(await t.throwsAsync(child.read(Buffer.alloc(4096), 0)), { code: 'EIO' });
  t.is(requests, 5);
});

test('nbd: requests are sent before the ones before are answered, and answered in any order', async (t) => {
  const held: Request[] = [];
  const path = await fakeServer(t, {
    answer: (request, socket) => {
      if (request.command !== 0) return;
      held.push(request);
      if (held.length < 16) return;
      for (const { cookie, offset, length } of held.reverse())
        socket.write(
          chunk(cookie, 1, Buffer.concat([u64(offset), Buffer.alloc(length, Number(offset / 4096n))])),
        );
    },
  });
  const child = await open(t, path);
  const reads = Array.from({ length: 16 }, async (_, index) => {
    const bytes = Buffer.alloc(4096, 0xdb);
    await child.read(bytes, index * 4096);
    return bytes.equals(Buffer.alloc(4096, index));
  });
  t.true((await Promise.all(reads)).every(Boolean));
});

test('nbd: a status that tells nothing, or more than there is, is no trap', async (t) => {
  const answers = [Buffer.concat([u32(7), u32(0), u32(3)]), Buffer.concat([u32(7), u32(0xffffffff), u32(0)])];
  const path = await fakeServer(t, {
    answer: ({ cookie }, socket) => void socket.write(chunk(cookie, 5, answers.shift() ?? Buffer.alloc(0))),
  });
  const child = await open(t, path);
  const status = new BlockStatus();
  await child.status(0, 65536, status);
  t.like(status, { length: 65536, data: true });
  await child.status(131072, 1048576 - 131072, status);
  t.like(status, { length: 1048576 - 131072, data: true });
});

test('nbd: writes that a lost connection may have taken along fail every flush after', async (t) => {
  const path = await fakeServer(t, {
    answer: ({ command, cookie }, socket) => {
      if (command === 0) socket.destroy();
      else socket.write(chunk(cookie, 0, Buffer.alloc(0)));
    },
  });
  const child = await open(t, path);
  await child.write(Buffer.alloc(512, 1), 0);
  await child.flush();
  await t.throwsAsync(child.read(Buffer.alloc(512), 0));
  await child.flush();
  await child.write(Buffer.alloc(512, 1), 0);
  await t.throwsAsync(child.read(Buffer.alloc(512), 0));
  for (let count = 0; count < 2; count += 1) {
    const error = await t.throwsAsync(child.flush());
    t.regex(error.message, /^Cannot flush .*: the connection was lost with writes that were not flushed/);
  }
});
