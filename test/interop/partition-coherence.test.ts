/** A disk and its partitions under writers by every name and in every way at once, with mappings of both. */
import { constants } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { fallocate } from '../helpers/fallocate.ts';
import { mapFile } from '../helpers/mapping.ts';
import type { Mapping } from '../helpers/mapping.ts';
import { mountImage } from '../helpers/mounted.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 2 ** 20;
const PAGE = 4096;
const START = 16 * MIB;
const LENGTH = 4 * MIB;
const STRIPE = 16 * PAGE;
const WORKERS = 6;

/** One file, opened in both ways and mapped. `start`: where the partition begins in it. */
interface View {
  readonly name: string;
  readonly start: number;
  readonly cached: FileHandle;
  readonly direct: FileHandle;
  readonly mapping: Mapping;
}

async function viewOf(t: ExecutionContext, name: string, path: string, start: number): Promise<View> {
  const cached = await open(path, 'r+');
  const direct = await open(path, constants.O_RDWR | constants.O_DIRECT);
  const mapping = mapFile(t, cached.fd, start + LENGTH);
  return { name, start, cached, direct, mapping };
}

interface Step {
  readonly what: string;
  readonly wanted: Buffer;
  readonly offset: number;
}

/** One change of a worker's own stripe, by a random name in a random way. */
async function change(random: Random, views: readonly View[], stripe: number): Promise<Step> {
  const view = random.pick(views);
  const pages = 1 + random.below(4);
  const offset = stripe + random.below(STRIPE / PAGE - pages) * PAGE;
  const wanted = random.bytes(pages * PAGE);
  const at = view.start + offset;
  const how = random.pick(['cached', 'direct', 'mapping', 'hole'] as const);
  if (how === 'cached') await view.cached.write(wanted, 0, wanted.length, at);
  else if (how === 'direct') await view.direct.write(wanted, 0, wanted.length, at);
  else if (how === 'hole') {
    wanted.fill(0);
    await fallocate(view.cached.fd, 'punchHole', at, wanted.length);
  } else {
    wanted.copy(view.mapping.bytes, at);
    await view.cached.datasync();
    view.mapping.sync();
  }
  return { what: `${how} of the ${view.name}`, wanted, offset };
}

async function seesAll(views: readonly View[], { what, wanted, offset }: Step): Promise<void> {
  for (const { name, start, cached, direct, mapping } of views) {
    const at = start + offset;
    const found = Buffer.alloc(wanted.length);
    const check = (how: string, bytes: Buffer): void => {
      if (!bytes.equals(wanted)) throw new Error(`${how} of the ${name} at ${offset} is stale after ${what}`);
    };
    check('mapping', mapping.bytes.subarray(at, at + wanted.length));
    await cached.read(found, 0, found.length, at);
    check('cached', found);
    await direct.read(found, 0, found.length, at);
    check('direct', found);
  }
}

const coherent = test.macro(async (t: ExecutionContext, format: string) => {
  if (!canRun(t, 'qemu-img', 'sfdisk')) return;
  const folder = await tempDir(t);
  const [raw, image] = [join(folder, 'table'), join(folder, 'disk')];
  await writeFile(raw, Buffer.alloc(32 * MIB));
  await run('sfdisk', ['-q', raw], { input: `label: gpt\nstart=${START / 512},size=${LENGTH / 512}\n` });
  await run('qemu-img', ['convert', '-O', format, raw, image]);
  const mounted = await mountImage(t, image, ['--format', format]);
  // The partition first: a raw disk is not passed through then.
  const part = await viewOf(t, 'partition', join(mounted.mountpoint, 'disk.partitions/1.raw'), 0);
  const disk = await viewOf(t, 'disk', mounted.file, START);
  const views = [disk, part];
  t.teardown(async () => {
    for (const { cached, direct, mapping } of views) {
      mapping.unmap();
      await cached.close();
      await direct.close();
    }
  });
  const start = seed(23);
  t.log(`seed ${start}`);
  const worker = async (index: number): Promise<void> => {
    const random = new Random(start + index);
    for (let step = 0; step < rounds(40, 2000); step += 1) {
      await seesAll(views, await change(random, views, index * STRIPE));
    }
  };
  // All of them end before what they look at is unmapped.
  const ends = await Promise.allSettled(Array.from({ length: WORKERS }, (_, index) => worker(index)));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  const expected = Buffer.from(part.mapping.bytes);
  for (const { cached } of views) await cached.datasync();
  t.true(disk.mapping.bytes.subarray(START).equals(expected));
});

for (const format of ['qcow2', 'raw']) {
  test.serial(`${format}: writers by both names, cached, direct, by mappings, and holes`, coherent, format);
}
