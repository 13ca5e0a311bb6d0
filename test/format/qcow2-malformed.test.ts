/** Malformed qcow2 images: refused with a clear error, or served; never a crash, a hang, or memory on their word. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { HEADER_FIELDS } from '../../drivers/format/qcow2/header.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { HANG_MS } from '../helpers/until.ts';

async function openError(t: ExecutionContext, image: Buffer, options = {}): Promise<BlockError> {
  const path = join(await tempDir(t), 'image.qcow2');
  await writeFile(path, image);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const error = await t.throwsAsync(graph.openImage(path, 'qcow2', options));
  if (!(error instanceof BlockError)) throw new Error(`not a BlockError: ${String(error)}`);
  return error;
}

async function makeImage(t: ExecutionContext, options: string, size = '64M'): Promise<Buffer> {
  const path = join(await tempDir(t), 'made.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, path, size]);
  await run('qemu-io', ['-c', 'write -P 1 0 100k', '-c', 'write -P 2 30M 3k', path]);
  return readFile(path);
}

function set(image: Buffer, name: string, value: bigint): Buffer {
  const field = HEADER_FIELDS.find((entry) => entry.field === name);
  if (field === undefined) throw new Error(`no header field ${name}`);
  const changed = Buffer.from(image);
  if (field.width === 8) changed.writeBigUInt64BE(value, field.offset);
  else changed.writeUIntBE(Number(value), field.offset, field.width);
  return changed;
}

const refuses = test.macro(
  async (t: ExecutionContext, changes: Readonly<Record<string, bigint>>, message: RegExp) => {
    if (!canRun(t, 'qemu-img', 'qemu-io')) return;
    let image = await makeImage(t, 'compat=1.1');
    for (const [name, value] of Object.entries(changes)) image = set(image, name, value);
    t.regex((await openError(t, image)).message, message);
  },
);

test('magic', refuses, { magic: 0x51464900n }, /magic is 0x51464900, must be 0x514649fb/);
test('version', refuses, { version: 4n }, /version is 4, must be 2 or 3/);
test('cluster_bits too large', refuses, { cluster_bits: 40n }, /cluster_bits is 40, must be 9 to 21/);
test('cluster_bits too small', refuses, { cluster_bits: 8n }, /cluster_bits is 8, must be 9 to 21/);
test(
  'header_length',
  refuses,
  { header_length: 103n },
  /header_length is 103, must be a multiple of 8 from 104/,
);
test('header_length huge', refuses, { header_length: 0xfffffff8n }, /header_length is 4294967288, must be/);
test('refcount_order', refuses, { refcount_order: 7n }, /refcount_order is 7, must be 0 to 6/);
test(
  'L1 too big',
  refuses,
  { l1_size: 0x7fffffffn },
  /L1 table too big: l1_size is 2147483647 entries, must be at most/,
);
test(
  'L1 too small',
  refuses,
  { size: 1n << 40n },
  /L1 table is too small: l1_size is 1 entries, must be at least 2048/,
);
test('size over 2^53', refuses, { size: 1n << 60n }, /size is over 2\^53 bytes/);
test('L1 unaligned', refuses, { l1_table_offset: 0x30001n }, /l1_table_offset is 196609, must be a multiple/);
test('L1 in the header', refuses, { l1_table_offset: 0n }, /l1_table_offset is 0, must be a multiple/);
test(
  'L1 past the end',
  refuses,
  { l1_table_offset: 1n << 40n },
  /l1_table_offset is 1099511627776, must be inside the file/,
);
test(
  'L1 over 2^53',
  refuses,
  { l1_table_offset: 1n << 62n },
  /l1_table_offset is over 2\^53, must be a multiple/,
);
test(
  'refcount table too big',
  refuses,
  { refcount_table_clusters: 1000n },
  /refcount_table_clusters is 1000, must be 1 to 128/,
);
test(
  'refcount table missing',
  refuses,
  { refcount_table_clusters: 0n },
  /refcount_table_clusters is 0, must be 1/,
);
test('snapshots too many', refuses, { nb_snapshots: 70000n }, /nb_snapshots is 70000, must be at most 65536/);
test(
  'snapshots unaligned',
  refuses,
  { nb_snapshots: 1n, snapshots_offset: 5n },
  /snapshots_offset is 5, must be a multiple/,
);
test(
  'backing name outside',
  refuses,
  { backing_file_offset: 70000n },
  /backing_file_offset is 70000, must be inside the first/,
);
test(
  'backing name too long',
  refuses,
  { backing_file_offset: 600n, backing_file_size: 2000n },
  /backing_file_size is 2000, must be at most 1023/,
);
test('AES without a key', refuses, { crypt_method: 1n }, /it is encrypted, and no key was given/);
test('LUKS without a header', refuses, { crypt_method: 2n }, /there are 0 encryption header extensions/);
test('crypt_method 3', refuses, { crypt_method: 3n }, /crypt_method is 3, must be 0, 1/);
test(
  'compression type',
  refuses,
  { incompatible_features: 8n },
  /compression_type is 0, must not be 0 with the feature bit set/,
);
test(
  'unknown feature',
  refuses,
  { incompatible_features: 1n << 40n },
  /uses "unknown incompatible feature bit 40", which is not supported/,
);
test(
  'raw data bit alone',
  refuses,
  { autoclear_features: 2n },
  /raw external data bit is set, must be clear without/,
);

test('an unknown feature is refused by the name in the image', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, 'compat=1.1');
  const at = image.indexOf(Buffer.from('6803f857', 'hex'));
  image[at + 8] = 0;
  image[at + 9] = 17;
  image.write('time travel\0', at + 10);
  const error = await openError(t, set(image, 'incompatible_features', 1n << 17n));
  t.regex(error.message, /uses "time travel", which is not supported/);
  t.is(error.code, 'ENOTSUP');
});

test('a header extension that is longer than the header is refused', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, 'compat=1.1');
  image.writeUInt32BE(0x7ffffff0, image.readUInt32BE(100) + 4);
  t.regex(
    (await openError(t, image)).message,
    /header extension 0x[0-9a-f]+ at \d+ is 2147483632 bytes long/,
  );
});

test('an empty file and a cut header are refused', async (t) => {
  t.regex((await openError(t, Buffer.alloc(0))).message, /magic is 0x0/);
  t.regex((await openError(t, Buffer.from('514649fb', 'hex'))).message, /version is 0/);
});

/** Changes a few bytes or whole fields, mostly where tables are. */
function mutate(image: Buffer, random: Random): Buffer {
  const changed = Buffer.from(image);
  for (let count = random.between(1, 4); count > 0; count -= 1) {
    const way = random.below(4);
    if (way === 0) {
      const field = random.pick(HEADER_FIELDS);
      random.bytes(field.width).copy(changed, field.offset);
    } else if (way === 1) {
      changed[random.below(600)] = random.below(256);
    } else {
      const used = [0, 65536, 131072, 196608, 262144].map((at) => at + random.below(24) * 8);
      const at = Math.min(random.pick(used), changed.length - 8);
      const value = way === 2 ? random.bytes(8) : Buffer.from(`80000000000${random.below(10)}0000`, 'hex');
      value.copy(changed, at);
    }
  }
  return changed;
}

const SURVIVOR = fileURLToPath(new URL('malformed-run.ts', import.meta.url));

test('mutated images are refused or served, in bounded time and memory', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const random = new Random(seed(4711));
  const folder = await tempDir(t);
  const bases = [
    await makeImage(t, 'cluster_size=64k'),
    await makeImage(t, 'cluster_size=64k,extended_l2=on'),
    await makeImage(t, 'cluster_size=64k,compat=0.10'),
  ];
  const count = rounds(240, 3000);
  const paths: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const path = join(folder, `${index}.qcow2`);
    await writeFile(path, mutate(random.pick(bases), random));
    paths.push(path);
  }
  await writeFile(join(folder, 'list'), paths.join('\n'));
  const output = await new Promise<string>((resolve, reject) => {
    execFile(
      process.execPath,
      [SURVIVOR, join(folder, 'list')],
      { timeout: HANG_MS },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${error.message}\n${stdout}${stderr}`));
      },
    );
  });
  const { served, refused, slowest, memory } = JSON.parse(output) as Record<string, number>;
  t.log(`served ${served}, refused ${refused}, slowest ${slowest} ms of CPU, memory ${memory} MiB`);
  t.is((served ?? 0) + (refused ?? 0), count);
  t.true((served ?? 0) > 0 && (refused ?? 0) > 0);
  t.true((slowest ?? 0) < 5000, `slowest took ${slowest} ms of CPU`);
  t.true((memory ?? 0) < 512, `memory ${memory} MiB`);
});
