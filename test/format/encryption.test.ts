/** Encrypted qcow2 and qcow images, and LUKS volumes, judged by qemu-img both ways. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { qemuImgWithNewKey } from '../helpers/qemu-key.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
const SIZE = 6 * MIB + 512;
const KEY = 'correct horse';
const SECRET = ['--object', `secret,id=s,data=${KEY}`];
type Options = Readonly<Record<string, string | number>>;

interface Subject {
  readonly format: 'qcow2' | 'qcow' | 'luks';
  readonly options: Options;
}

const asText = (options: Options): string =>
  Object.entries(options)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
const keyName = ({ format }: Subject): string => (format === 'luks' ? 'key-secret' : 'encrypt.key-secret');

function graphWith(t: ExecutionContext, key: string | undefined, openLocked = false): Graph {
  const graph = new Graph({ drivers: DRIVERS, openLocked });
  if (key !== undefined) graph.secrets.add('s', Buffer.from(key));
  t.teardown(() => graph.close());
  return graph;
}

async function hold(graph: Graph, path: string, { format }: Subject, options: Options = {}) {
  const named = format === 'luks' ? { 'key-secret': 's' } : { 'encrypt.key-secret': 's' };
  const node = await graph.openImage(path, format, { discard: 'unmap', ...named, ...options });
  return graph.attachRoot(node, { name: 'test', used: 15 });
}

/** A raw image with the content of a model; data, and holes of all sizes. */
async function content(folder: string, random: Random): Promise<{ raw: string; model: ModelDisk }> {
  const model = new ModelDisk(SIZE);
  for (let index = 0; index < 12; index += 1) {
    const offset = random.below(SIZE - 200_000);
    model.write(random.bytes(1 + random.below(200_000)), offset);
  }
  const raw = join(folder, 'content.raw');
  await writeFile(raw, model.bytes);
  return { raw, model };
}

const sameAsQemu = async (raw: string, image: string, subject: Subject): Promise<void> => {
  const opened = `driver=${subject.format},${keyName(subject)}=s,file.driver=file,file.filename=${image}`;
  await run('qemu-img', ['compare', ...SECRET, '--image-opts', `driver=raw,file.filename=${raw}`, opened]);
  if (subject.format === 'qcow2') await run('qemu-img', ['check', ...SECRET, '--image-opts', opened]);
};

async function exerciseAndCompare(
  t: ExecutionContext,
  place: { image: string; folder: string },
  subject: Subject,
  given: { model: ModelDisk; random: Random },
): Promise<void> {
  const { model, random } = given;
  const graph = graphWith(t, KEY);
  const disk = childDisk(await hold(graph, place.image, subject), random);
  await verify(disk, model);
  const borders = [65536, 512];
  await exercise(disk, model, { random, operations: 120, concurrency: 6, maxLength: 150_000, borders });
  await verify(disk, model);
  await graph.close();
  const after = join(place.folder, 'after.raw');
  await writeFile(after, model.bytes);
  await t.notThrowsAsync(sameAsQemu(after, place.image, subject));
}

const theirs = test.macro<[Subject]>(async (t: ExecutionContext, subject) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const random = new Random(seed(11));
  const { raw, model } = await content(folder, random);
  const image = join(folder, 'image');
  const options = asText({ ...subject.options, [keyName(subject)]: 's' });
  await qemuImgWithNewKey(['convert', ...SECRET, '-O', subject.format, '-o', options, raw, image]);
  const locked = await graphWith(t, 'wrong')
    .openImage(image, subject.format, {
      [keyName(subject)]: 'none',
    })
    .catch((error: unknown) => error);
  t.regex(String(locked), /there is no secret with id "none"/);
  if (subject.options['encrypt.format'] !== 'aes') {
    const wrong = await t.throwsAsync(hold(graphWith(t, 'wrong\n'), image, subject));
    t.regex(wrong.message, /fits none of its key slots \(it ends with a newline/);
  }
  await exerciseAndCompare(t, { image, folder }, subject, { model, random });
});

const ours = test.macro<[Subject]>(async (t: ExecutionContext, subject) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'image');
  const graph = graphWith(t, KEY);
  const options = { ...subject.options, [keyName(subject)]: 's' };
  await createImage(graph, { filename: image, format: subject.format, size: SIZE, options });
  await graph.close();
  const found = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as Encrypted;
  t.like(found, { format: subject.format, 'virtual-size': SIZE, encrypted: true });
  const random = new Random(seed(12));
  const model = new ModelDisk(SIZE);
  if (subject.format === 'luks') {
    const bytes = Buffer.alloc(SIZE, 1);
    model.write(bytes, 0);
    const filling = graphWith(t, KEY);
    await (await hold(filling, image, subject)).write(bytes, 0);
    await filling.close();
  }
  await exerciseAndCompare(t, { image, folder }, subject, { model, random });
  const locked = graphWith(t, undefined, true);
  const node = await locked.openImage(image, subject.format, { 'read-only': true });
  const info = await node.impl.info?.();
  const theirData = found['format-specific']?.data;
  if (theirData !== undefined) t.deepEqual(info?.formatSpecific, theirData);
  if (subject.format === 'luks') return;
  const door = locked.attachRoot(node, { name: 'test', used: 1 });
  await t.throwsAsync(door.read(Buffer.alloc(SIZE), 0), { message: /it is encrypted, and no key was given/ });
});

interface Encrypted {
  readonly 'format-specific'?: { readonly data: Readonly<Record<string, unknown>> };
}

const luks = { 'encrypt.format': 'luks', 'encrypt.iter-time': 100 };
const SUBJECTS: Readonly<Record<string, Subject>> = {
  'qcow2, LUKS': { format: 'qcow2', options: luks },
  'qcow2, AES': { format: 'qcow2', options: { 'encrypt.format': 'aes' } },
  'qcow2, AES, version 2': { format: 'qcow2', options: { 'encrypt.format': 'aes', compat: '0.10' } },
  'qcow, AES': { format: 'qcow', options: { 'encrypt.format': 'aes' } },
  'qcow2, LUKS, 512-byte clusters': { format: 'qcow2', options: { ...luks, cluster_size: 512 } },
  'qcow2, LUKS, subclusters, cbc-essiv, sha512': {
    format: 'qcow2',
    options: {
      ...luks,
      extended_l2: 'on',
      'encrypt.cipher-mode': 'cbc',
      'encrypt.cipher-alg': 'aes-256',
      'encrypt.ivgen-alg': 'essiv',
      'encrypt.ivgen-hash-alg': 'sha256',
      'encrypt.hash-alg': 'sha512',
    },
  },
  'qcow2, LUKS, preallocated': { format: 'qcow2', options: { ...luks, preallocation: 'metadata' } },
  'luks, aes-128-xts, sha1': {
    format: 'luks',
    options: { 'cipher-alg': 'aes-128', 'hash-alg': 'sha1', 'iter-time': 100 },
  },
};
for (const [name, subject] of Object.entries(SUBJECTS)) {
  if (subject.options['preallocation'] === undefined)
    test.serial(`made by qemu-img: ${name}`, theirs, subject);
  test.serial(`made here: ${name}`, ours, subject);
}

test.serial('qcow2: an encrypted overlay over an encrypted backing file, resized', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const random = new Random(seed(13));
  const { raw, model } = await content(folder, random);
  const base = join(folder, 'base');
  const image = join(folder, 'image');
  const options = asText({ ...luks, 'encrypt.key-secret': 's' });
  await qemuImgWithNewKey(['convert', ...SECRET, '-O', 'qcow2', '-o', options, raw, base]);
  const graph = graphWith(t, KEY);
  graph.secrets.add('key', Buffer.from(KEY));
  await createImage(graph, {
    filename: image,
    format: 'qcow2',
    size: SIZE,
    options: { ...luks, backing_file: base, backing_fmt: 'qcow2' },
  });
  const node = await graph.openImage(image, undefined, { discard: 'unmap' });
  const door = graph.attachRoot(node, { name: 'test', used: 15 });
  const disk = childDisk(door, random);
  await verify(disk, model);
  const borders = [65536, 512];
  await exercise(disk, model, { random, operations: 150, concurrency: 6, maxLength: 150_000, borders });
  for (const size of [SIZE - 70_144, SIZE + 100_352]) {
    await door.resize(size, true);
    model.resize(size);
    await verify(disk, model);
  }
  await graph.close();
  const after = join(folder, 'after.raw');
  await writeFile(after, model.bytes);
  const backing = `backing.driver=qcow2,backing.encrypt.key-secret=s,backing.file.driver=file,backing.file.filename=${base}`;
  const top = `driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename=${image},${backing}`;
  const plain = `driver=raw,file.filename=${after}`;
  await t.notThrowsAsync(run('qemu-img', ['compare', ...SECRET, '--image-opts', plain, top]));
  await t.notThrowsAsync(run('qemu-img', ['check', ...SECRET, '--image-opts', top]));
});

test('LUKS: what is not supported is refused by its name', async (t) => {
  const folder = await tempDir(t);
  const graph = graphWith(t, KEY);
  const path = join(folder, 'volume');
  const subject: Subject = { format: 'luks', options: {} };
  const options = { 'iter-time': 1, 'key-secret': 's' };
  await createImage(graph, { filename: path, format: 'luks', size: MIB, options });
  const good = await readFile(path);
  const changed = async (at: number, bytes: Buffer, wanted: RegExp): Promise<void> => {
    const bad = Buffer.from(good);
    bytes.copy(bad, at);
    await writeFile(path, bad);
    const error = await t.throwsAsync(hold(graph, path, subject));
    t.regex(error.message, wanted);
  };
  await changed(6, Buffer.from([0, 2]), /it is LUKS2, only LUKS1 is supported/);
  await changed(
    8,
    Buffer.from('serpent\0'),
    /cipher "serpent-xts-plain64" with 512 key bits is not supported/,
  );
  await changed(40, Buffer.from('xts-benbi\0\0'), /cipher "aes-xts-benbi" .* is not supported/);
  await changed(
    72,
    Buffer.from('ripemd160\0'),
    /hash "ripemd160" is not supported, only sha1, sha256, sha512/,
  );
});
