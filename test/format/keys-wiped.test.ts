/** Keys are gone from memory when their image is closed: the whole memory of a server is searched for them. */
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { decodeLuksHeader, LUKS_HEADER_BYTES } from '../../src/crypto/luks-header.ts';
import { unlock } from '../../src/crypto/luks-key.ts';
import { qemuImgWithNewKey } from '../helpers/qemu-key.ts';
import { serve } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';

const CHUNK = 4 * 1024 * 1024;
/** No text of a program is the same. */
const PASSPHRASE = 'open 7f3a91c2 sesame 5b8d';

/** How often each of the patterns is in memory that the process may write to. */
async function countInMemory(pid: number, patterns: readonly Buffer[]): Promise<number[]> {
  const counts = patterns.map(() => 0);
  const longest = Math.max(...patterns.map(({ length }) => length));
  const memory = await open(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n')) {
      const range = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
      if (range === null) continue;
      const [from, to] = [Number.parseInt(range[1] ?? '', 16), Number.parseInt(range[2] ?? '', 16)];
      for (let at = from; at < to; at += CHUNK) {
        const bytes = Buffer.alloc(Math.min(CHUNK + longest - 1, to - at));
        const read = await memory.read(bytes, 0, bytes.length, at).catch(() => ({ bytesRead: 0 }));
        for (const [index, pattern] of patterns.entries())
          counts[index] = (counts[index] ?? 0) + occurrences(bytes.subarray(0, read.bytesRead), pattern);
      }
    }
  } finally {
    await memory.close();
  }
  return counts;
}

function occurrences(bytes: Buffer, pattern: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(pattern); at >= 0 && at < CHUNK; at = bytes.indexOf(pattern, at + 1))
    count += 1;
  return count;
}

/** The key of the disk, from the header at `start` of a file. */
async function masterKey(image: string, start: number): Promise<Buffer> {
  const bytes = (await readFile(image)).subarray(start);
  const header = decodeLuksHeader(bytes.subarray(0, LUKS_HEADER_BYTES), image, bytes.length);
  const read = (into: Buffer, offset: number): Promise<void> => {
    bytes.copy(into, 0, offset, offset + into.length);
    return Promise.resolve();
  };
  return unlock(header, Buffer.from(PASSPHRASE), read, image);
}

/** Where the header of an encrypted qcow2 image is: its extension says so. */
async function headerPlace(image: string): Promise<number> {
  const bytes = await readFile(image);
  return Number(bytes.readBigUInt64BE(bytes.indexOf(Buffer.from('0537be77', 'hex')) + 8));
}

interface Encrypted {
  readonly driver: 'luks' | 'qcow2';
  readonly create: string;
  readonly options: Record<string, unknown>;
  /** What the library gets of the key at once. */
  readonly parts: number;
}

const areGone = test.macro(async (t: ExecutionContext, { driver, create, options, parts }: Encrypted) => {
  if (!canRun(t, 'qemu-img') || !isRoot(t)) return;
  t.timeout(300_000);
  const folder = await tempDir(t);
  const [secret, image] = [join(folder, 'secret'), join(folder, 'image')];
  await writeFile(secret, PASSPHRASE);
  const object = `secret,id=key,file=${secret}`;
  await qemuImgWithNewKey(['create', '-q', '-f', driver, '--object', object, '-o', create, image, '1M']);
  const key = await masterKey(image, driver === 'luks' ? 0 : await headerPlace(image));
  const length = key.length / parts;
  const patterns = Array.from({ length: parts }, (_, index) =>
    key.subarray(index * length, (index + 1) * length),
  );
  const { client, child } = await serve(t, ['--object', object]);
  const search = (): Promise<number[]> =>
    countInMemory(child.pid ?? 0, [...patterns, Buffer.from(PASSPHRASE)]);
  const file = { driver: 'file', filename: image };
  await client.run('blockdev-add', { driver, 'node-name': 'n0', ...options, file });
  await writeFile(join(folder, 'mnt'), '');
  const shown = {
    type: 'fuse',
    id: 'e0',
    'node-name': 'n0',
    mountpoint: join(folder, 'mnt'),
    writable: true,
  };
  await client.run('block-export-add', shown);
  const disk = await open(shown.mountpoint, 'r+');
  await disk.write(Buffer.alloc(200_000, 7), 0, 200_000, 1000);
  await disk.sync();
  await disk.close();
  const used = await search();
  for (const [index, count] of used.entries()) t.true(count > 0, `${index}: the search finds what is there`);
  await client.run('block-export-del', { id: 'e0' });
  await client.event('BLOCK_EXPORT_DELETED');
  await client.run('blockdev-del', { 'node-name': 'n0' });
  const closed = await search();
  t.deepEqual(
    closed.slice(0, -1),
    patterns.map(() => 0),
    'keys in memory',
  );
  await client.run('object-del', { id: 'key' });
  t.is((await search()).at(-1), 0, 'passphrases in memory');
});

const luks = 'key-secret=key,iter-time=10';
test.serial('LUKS, AES-XTS', areGone, {
  driver: 'luks',
  create: luks,
  options: { 'key-secret': 'key' },
  parts: 2,
});
test.serial('LUKS, AES-CBC with ESSIV', areGone, {
  driver: 'luks',
  create: `${luks},cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256`,
  options: { 'key-secret': 'key' },
  parts: 1,
});
test.serial('LUKS in qcow2', areGone, {
  driver: 'qcow2',
  create: 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10',
  options: { encrypt: { format: 'luks', 'key-secret': 'key' } },
  parts: 2,
});
