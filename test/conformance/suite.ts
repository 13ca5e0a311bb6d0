/** What every driver has to do alike. The test files beside this one run it for the subjects of their family. */
import { readFile } from 'node:fs/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { siblings } from '../../src/sys/folders.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, skip } from '../helpers/tools.ts';
import { isWritable } from './subject.ts';
import type { Image, Subject } from './subject.ts';

const SIZE = 3 * 1024 * 1024 + 1536;

/** Data, compressible data and holes, in runs of all lengths. */
function sampleContent(random: Random, size: number): Buffer {
  const content = Buffer.alloc(size);
  for (let at = 0; at < size;) {
    const length = Math.min(size - at, random.pick([512, 4096, 40_000, 65_536, 300_000]));
    const kind = random.below(3);
    if (kind === 1) random.bytes(length).copy(content, at);
    if (kind === 2) random.softBytes(length).copy(content, at);
    at += length;
  }
  return content;
}

interface Made {
  readonly subject: Subject;
  readonly image: Image;
  readonly model: ModelDisk;
  readonly random: Random;
}

async function make(t: ExecutionContext, subject: Subject): Promise<Made | undefined> {
  if (!DRIVERS.some((driver) => driver.name === subject.driver)) {
    skip(t, `there is no driver "${subject.driver}" yet`);
    return undefined;
  }
  if (!canRun(t, ...subject.tools)) return undefined;
  if (subject.root === true && process.getuid?.() !== 0) {
    skip(t, 'only root can make it');
    return undefined;
  }
  const random = new Random(seed(42));
  const model = new ModelDisk(subject.size ?? SIZE);
  model.write(sampleContent(random, model.size), 0);
  const image = await subject.make(await tempDir(t), model.bytes);
  t.teardown(() => image.end?.());
  return { subject, image, model, random };
}

function graphFor(t: ExecutionContext, image: Image): Graph {
  const graph = new Graph({ drivers: DRIVERS, siblings });
  t.teardown(() => graph.close());
  image.prepare?.(graph);
  return graph;
}

/** Opens the image in a graph of its own; for a subject without a file its content is written first. */
async function open(t: ExecutionContext, made: Made, extra: Record<string, unknown> = {}) {
  const graph = graphFor(t, made.image);
  const readOnly = extra['read-only'] === true || !isWritable(made.subject);
  const options = { discard: 'unmap', ...made.image.options, 'read-only': readOnly, ...extra };
  const node = await graph.open(options);
  const used = readOnly ? Permission.consistentRead : ALL_PERMISSIONS;
  const root = graph.attachRoot(node, { name: 'test', label: 'the test', used });
  if (made.image.path === undefined && !readOnly) await root.write(made.model.bytes, 0);
  return { graph, root };
}

const BEHAVIOURS: Readonly<Record<string, (t: ExecutionContext, made: Made) => Promise<void>>> = {
  'reads its content at every alignment, on both paths': readsContent,
  'tells holes that are holes': tellsHoles,
  'keeps what concurrent requests write, and is sound afterwards': keepsWrites,
  'reads again what was written before it was closed': readsAgain,
  'opened read-only is not changed by a byte': isNotChanged,
  'grows with zeroes, and shrinks only when told to': resizes,
  'is known by its content': isKnown,
};

/** One test of each behaviour for each subject. */
export function conform(subjects: readonly Subject[]): void {
  for (const subject of subjects) {
    for (const [title, behaviour] of Object.entries(BEHAVIOURS)) {
      test.serial(`${subject.name}: ${title}`, async (t) => {
        const made = await make(t, subject);
        if (made !== undefined) await behaviour(t, made);
      });
    }
  }
}

async function readsContent(t: ExecutionContext, made: Made): Promise<void> {
  const { root } = await open(t, made);
  const { model, random } = made;
  t.is(root.size, model.size);
  await verify({ read: (bytes, offset) => root.read(bytes, offset) }, model, 333_333);
  let synchronous = 0;
  for (let round = 0; round < rounds(300, 5000); round += 1) {
    const offset = random.below(model.size);
    const length = Math.min(model.size - offset, random.pick([1, 511, 512, 4096, 70_000]));
    const bytes = Buffer.alloc(length + 20, 0xdb);
    if (root.tryRead(bytes, 10, length, offset)) synchronous += 1;
    else await root.read(bytes.subarray(10, 10 + length), offset);
    const expected = Buffer.concat([
      Buffer.alloc(10, 0xdb),
      model.read(offset, length),
      Buffer.alloc(10, 0xdb),
    ]);
    t.is(difference(bytes, expected, offset - 10), undefined);
  }
  t.log(`${synchronous} reads were synchronous`);
}

async function tellsHoles(t: ExecutionContext, made: Made): Promise<void> {
  const { root } = await open(t, made);
  await compareStatus(t, root, made.model);
}

async function keepsWrites(t: ExecutionContext, made: Made): Promise<void> {
  if (!isWritable(made.subject)) return refusesToWrite(t, made);
  const { subject, model, random, image } = made;
  for (let round = 0; round < rounds(2, 10); round += 1) {
    const { graph, root } = await open(t, made);
    const run = { random, operations: 250, concurrency: 8, maxLength: 200_000, borders: [4096, 65_536] };
    await exercise(childDisk(root, random), model, run);
    await verify({ read: (bytes, offset) => root.read(bytes, offset) }, model);
    await compareStatus(t, root, model);
    await graph.close();
    await subject.judge?.(image, model.bytes);
  }
  t.pass();
}

async function readsAgain(t: ExecutionContext, made: Made): Promise<void> {
  t.pass();
  if (!isWritable(made.subject) || made.subject.can.reopen === false) return;
  const { model, random } = made;
  const first = await open(t, made);
  for (const offset of [1, 100_000, model.size - 777]) {
    const bytes = random.bytes(777);
    await first.root.write(bytes, offset);
    model.write(bytes, offset);
  }
  await first.root.flush();
  await first.graph.close();
  const { root } = await open(t, made, { 'read-only': true });
  await verify({ read: (bytes, offset) => root.read(bytes, offset) }, model);
  t.is(root.size, model.size);
}

async function isNotChanged(t: ExecutionContext, made: Made): Promise<void> {
  const { path } = made.image;
  t.pass();
  if (path === undefined) return;
  const before = await readFile(path);
  await refusesToWrite(t, made);
  t.true(before.equals(await readFile(path)));
}

async function resizes(t: ExecutionContext, made: Made): Promise<void> {
  const { can } = made.subject;
  const { graph, root } = await open(t, made);
  if (!isWritable(made.subject) || can.grow !== true) {
    await t.throwsAsync(root.resize(made.model.size * 2));
    return;
  }
  const { model } = made;
  const size = model.size + 1024 * 1024;
  await root.resize(size);
  await t.throwsAsync(root.resize(4096));
  t.is(root.size, size);
  model.resize(size);
  await root.write(Buffer.alloc(512, 0x77), size - 512);
  model.bytes.fill(0x77, size - 512);
  await verify({ read: (bytes, offset) => root.read(bytes, offset) }, model);
  if (can.shrink === true) {
    await root.resize(700_416, true);
    await root.resize(1_000_448);
    model.resize(700_416);
    model.resize(1_000_448);
    await verify({ read: (bytes, offset) => root.read(bytes, offset) }, model);
  }
  await graph.close();
  await made.subject.judge?.(made.image, model.bytes);
}

async function isKnown(t: ExecutionContext, made: Made): Promise<void> {
  const { subject, image, model } = made;
  t.pass();
  if (subject.can.probe === false || image.path === undefined) return;
  const graph = graphFor(t, image);
  const node = await graph.openImage(image.path, undefined, { 'read-only': true });
  t.is(node.driver.name, subject.driver);
  t.is(node.size, model.size);
}

async function refusesToWrite(t: ExecutionContext, made: Made): Promise<void> {
  const { graph, root } = await open(t, made, { 'read-only': true });
  t.false(root.tryWrite(Buffer.alloc(512, 1), 0, 512, 0));
  await t.throwsAsync(root.write(Buffer.alloc(512, 1), 0), { code: 'EROFS' });
  await t.throwsAsync(root.writeZeroes(0, 512), { code: 'EROFS' });
  await t.throwsAsync(root.discard(0, 65_536), { code: 'EROFS' });
  if (made.image.path !== undefined) {
    await verify({ read: (bytes, offset) => root.read(bytes, offset) }, made.model);
  }
  await graph.close();
}

/** Whatever a node calls zero reads as zeroes; and the runs cover it all. */
async function compareStatus(t: ExecutionContext, root: Child, model: ModelDisk): Promise<void> {
  const status = new BlockStatus();
  for (let at = 0; at < root.size; at += status.length) {
    await root.status(at, root.size - at, status);
    if (status.length <= 0 || at + status.length > root.size)
      return t.fail(`a run of ${status.length} at ${at}`);
    if (status.data === status.zero) return t.fail(`data and zero are both ${status.data} at ${at}`);
    if (status.zero && model.read(at, status.length).some((byte) => byte !== 0)) {
      return t.fail(`there is data at ${at}, said to be ${status.length} zeroes`);
    }
  }
  t.pass();
}
