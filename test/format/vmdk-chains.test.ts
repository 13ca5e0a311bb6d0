/** Snapshots over parents, and files that are not where they were. */
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';
import { graphWith, hold, holdImage, MIB, mixedDisk, rawFile, readAll, release } from './small-image.ts';
import { facts, forWriting, qemuAgrees, qemuFacts } from './vmdk-fixtures.ts';

interface ChainPaths {
  readonly folder: string;
  readonly base: string;
  readonly top: string;
  readonly model: ModelDisk;
}

async function chain(t: ExecutionContext, create: readonly string[] = []): Promise<ChainPaths> {
  const folder = await tempDir(t);
  const model = new ModelDisk(12 * MIB);
  mixedDisk(7, model.size).copy(model.bytes);
  const raw = await rawFile(folder, 'base.raw', model.bytes);
  const [base, top] = [join(folder, 'base.vmdk'), join(folder, 'top.vmdk')];
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', raw, base]);
  await run('qemu-img', ['create', '-q', '-f', 'vmdk', ...create, '-b', 'base.vmdk', '-F', 'vmdk', top], {
    cwd: folder,
  });
  return { folder, base, top, model };
}

for (const create of [[], ['-o', 'zeroed_grain=on']]) {
  test(`vmdk: a snapshot over its parent ${create.join(' ')}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const { base, top, model } = await chain(t, create);
    const graph = graphWith(t, vmdkDriver);
    const before = await readFile(base);
    const random = new Random(seed(34));
    for (let round = 0; round < rounds(1, 10); round += 1) {
      const child = await hold(graph, forWriting(top));
      t.is(child.node.cow?.node.filename, base);
      await verify(child, model);
      const options = { random, operations: 150, concurrency: 6, maxLength: 200_000, borders: [65_536] };
      await exercise(childDisk(child, random), model, options);
      await verify(child, model);
      await release(graph, child);
      await qemuAgrees(top, model.bytes);
    }
    t.true(before.equals(await readFile(base)), 'the parent is untouched');
  });
}

test('vmdk: a snapshot created here over a parent', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, base, model } = await chain(t);
  const graph = graphWith(t, vmdkDriver);
  const path = join(folder, 'new.vmdk');
  const options = { backing_file: 'base.vmdk', zeroed_grain: true };
  const wanted = (await facts(graph, base))['cid'];
  await createImage(graph, { filename: path, format: 'vmdk', size: model.size, options });
  const child = await hold(graph, forWriting(path));
  await child.writeZeroes(MIB, 3 * MIB);
  model.zero(MIB, 3 * MIB);
  await verify(child, model);
  await release(graph, child);
  await qemuAgrees(path, model.bytes);
  t.true((await stat(path)).size < MIB, 'the zeroes are in the tables alone');
  t.is((await facts(graph, path))['parent-cid'], wanted);
});

test('vmdk: the content ID changes with the first write, not before, and is checked', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { base, top, model } = await chain(t);
  const graph = graphWith(t, vmdkDriver);
  const before = await readFile(base);
  const cid = (await facts(graph, base))['cid'];
  const idle = await hold(graph, forWriting(base));
  await idle.read(Buffer.alloc(4096), 0);
  await idle.flush();
  await release(graph, idle);
  t.true(before.equals(await readFile(base)), 'nothing was written');
  await release(graph, await holdImage(graph, top));

  const child = await hold(graph, forWriting(base));
  t.false(child.tryWrite(Buffer.alloc(512, 9), 0, 512, 0), 'the first write has to wait for the new ID');
  await child.write(Buffer.alloc(512, 9), 0);
  const changed = (await readFile(base)).toString('latin1');
  t.notRegex(changed, new RegExp(`CID=${Number(cid).toString(16).padStart(8, '0')}\n`));
  await until(() => child.tryWrite(Buffer.alloc(512, 9), 0, 512, 0), 'a write without waiting');
  await release(graph, child);
  const now = (await facts(graph, base))['cid'];
  t.not(now, cid);
  t.is(now, (await qemuFacts(base))['cid']);

  await t.throwsAsync(holdImage(graph, top), {
    code: 'EINVAL',
    message:
      /base.vmdk.*parentCID is [0-9a-f]{8}, the CID of the parent is [0-9a-f]{8} \(it was written to since\)/,
  });
  await writeFile(base, before);
  const again = await holdImage(graph, top);
  await verify(again, model);
});

test('vmdk: a parent that is gone is named, with where it was looked for and the option that overrides it', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, base, top, model } = await chain(t);
  const graph = graphWith(t, vmdkDriver);
  const elsewhere = join(folder, 'renamed.vmdk');
  await rename(base, elsewhere);
  const error = await t.throwsAsync(holdImage(graph, top));
  t.regex(error.message, /backing "base.vmdk".*looked for ".*\/base.vmdk".*backing.file.filename/);
  const child = await hold(graph, {
    driver: 'vmdk',
    'read-only': true,
    file: { driver: 'file', filename: top },
    backing: { driver: 'vmdk', file: { driver: 'file', filename: elsewhere } },
  });
  await verify(child, model);
});

test('vmdk: a parent named by a path of another machine is looked for beside the image', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, top, model } = await chain(t);
  const bytes = await readFile(top);
  const text = bytes.toString('latin1', 512, 512 * 21);
  for (const hint of ['/vmfs/volumes/5f/vm/base.vmdk', 'C:\\Virtual Machines\\vm\\base.vmdk']) {
    const moved = Buffer.from(text.replace('"base.vmdk"', `"${hint}"`), 'latin1').subarray(0, 512 * 20);
    bytes.fill(0, 512, 512 * 21);
    moved.copy(bytes, 512);
    const path = await rawFile(folder, 'moved.vmdk', bytes);
    const child = await holdImage(graphWith(t, vmdkDriver), path);
    await verify(child, model);
    t.is(child.node.cow?.node.filename, join(folder, 'base.vmdk'));
  }
});

test('vmdk: a missing extent is named, and another file can be given for it', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const disk = mixedDisk(8, 8 * MIB);
  const raw = await rawFile(folder, 'base.raw', disk);
  const path = join(folder, 'flat.vmdk');
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=monolithicFlat', raw, path]);
  await rename(join(folder, 'flat-flat.vmdk'), join(folder, 'other.bin'));
  const graph = graphWith(t, vmdkDriver);
  const error = await t.throwsAsync(holdImage(graph, path));
  t.regex(error.message, /extents.0 "flat-flat.vmdk".*looked for ".*\/flat-flat.vmdk".*extents.0.filename/);
  const file = { driver: 'file', filename: path };
  for (const extents of [
    { 0: { filename: join(folder, 'other.bin') } },
    { 0: { file: { filename: join(folder, 'other.bin') } } },
    { 0: { driver: 'file', filename: join(folder, 'other.bin') } },
  ]) {
    const child = await hold(graph, { driver: 'vmdk', 'read-only': true, file, extents });
    t.is(difference(await readAll(child), disk), undefined);
    await release(graph, child);
  }
});

test('vmdk: an image is reopened read-only and for writing, closed in between as it should be', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { base, model } = await chain(t);
  const graph = graphWith(t, vmdkDriver);
  const options = { ...forWriting(base), 'node-name': 'disk' };
  const node = await graph.open({ ...options, 'read-only': true });
  const child = graph.attachRoot(node, { name: 'test', used: Permission.consistentRead });
  await verify(child, model);
  const cid = (await readFile(base)).toString('latin1', 512, 1024);
  for (let round = 0; round < 2; round += 1) {
    await graph.reopen([{ node, options: { ...options, 'read-only': false } }]);
    graph.setRootPermissions(child, { used: ALL_PERMISSIONS, shared: ALL_PERMISSIONS });
    const bytes = Buffer.alloc(100_000, 0x31 + round);
    await child.write(bytes, 3 * MIB);
    model.write(bytes, 3 * MIB);
    graph.setRootPermissions(child, { used: Permission.consistentRead, shared: ALL_PERMISSIONS });
    t.is((await readFile(base))[72], 1);
    await graph.reopen([{ node, options: { ...options, 'read-only': true } }]);
    t.is((await readFile(base))[72], 0);
    await qemuAgrees(base, model.bytes);
    await verify(child, model);
  }
  t.not((await readFile(base)).toString('latin1', 512, 1024), cid);
});
