/**
 * Power cuts: what reaches the file below is recorded while a random workload runs; then the cut is made at random places.
 * What was flushed is there, of what came later any sectors are. The image must open for writing, every grain that a
 * table names lies in the file and belongs to one entry, and what a completed flush covered must read back.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { RecordedDisk, recordedDriver, Recorder } from './recorded-disk.ts';
import { graphWith, hold, MIB, mixedDisk, rawFile, readAll, release } from './small-image.ts';
import { cowd, hostedTables } from './vmdk-fixtures.ts';

const SIZE = 2 * MIB;
const STRIPE = 40_000;

/** A recorded disk that can be resized, which the record shows as a zero written to its last byte. */
class GrowingDisk extends RecordedDisk {
  async resize(size: number): Promise<void> {
    if (size > this.size) await this.write(Buffer.alloc(1), size - 1);
    this.size = size;
  }
}

/** The content of the model at some time, and the length of the record then. Taken at flushes they are promises. */
interface Moment {
  readonly events: number;
  readonly content: Buffer;
  readonly flushed: boolean;
}

/** Rounds of writes to stretches apart, so that a byte changes once a round; some rounds end with a flush. */
async function work(disk: Child, recorder: Recorder, random: Random, model: ModelDisk): Promise<Moment[]> {
  const moments: Moment[] = [{ events: 0, content: Buffer.from(model.bytes), flushed: true }];
  for (let count = 0; count < 40; count += 1) {
    const lanes = [0, 1, 2, 3].map((lane) => lane * (SIZE / 4));
    await Promise.all(lanes.map((from) => change(disk, random, model, from)));
    const flushed = random.chance(0.3);
    if (flushed) await disk.flush();
    moments.push({ events: recorder.events.length, content: Buffer.from(model.bytes), flushed });
  }
  return moments;
}

async function change(disk: Child, random: Random, model: ModelDisk, from: number): Promise<void> {
  const length = random.between(1, STRIPE);
  const offset = from + random.below(SIZE / 4 - length);
  const bytes = Buffer.alloc(length, random.between(1, 255));
  model.write(bytes, offset);
  await disk.write(bytes, offset);
}

/** Every byte is as it was at the last flush before the cut, or as it became later. */
function compare(actual: Buffer, moments: readonly Moment[], end: number): string | undefined {
  const kept = moments.findLastIndex(({ events, flushed }) => flushed && events <= end);
  const expected = Buffer.from(moments[kept]?.content ?? actual);
  const later = moments.slice(kept + 1);
  for (let at = 0; at < actual.length; at += 1) {
    if (actual[at] === expected[at]) continue;
    if (later.some(({ content }) => content[at] === actual[at])) expected[at] = actual[at] ?? 0;
  }
  return difference(actual, expected);
}

interface Shape {
  readonly graph: Graph;
  readonly folder: string;
}

/** The image to begin with, and the options that name its parent. */
interface Made {
  readonly image: Buffer;
  readonly backing?: Record<string, unknown>;
  readonly content: Buffer;
}

for (const [title, make] of [
  ['sparse', sparseImage],
  ['vmfsSparse', vmfsSparseImage],
  ['snapshot', snapshotImage],
] as const) {
  test(`vmdk: a ${title} extent survives power cuts`, async (t) => {
    const graph = graphWith(t, vmdkDriver);
    const folder = await tempDir(t);
    for (let round = 0; round < rounds(1, 30); round += 1) {
      const random = new Random(seed(51) + round);
      const recorder = new Recorder();
      const { image, content, backing = {} } = await make({ graph, folder });
      const file = new GrowingDisk(recorder, image, random);
      const recorded = graphWith(t, vmdkDriver, recordedDriver({ file }));
      const disk = await hold(recorded, {
        driver: 'vmdk',
        file: { driver: 'recorded-image', 'node-name': 'file' },
        ...backing,
      });
      const model = new ModelDisk(SIZE);
      content.copy(model.bytes);
      const moments = await work(disk, recorder, random, model);
      await recorded.close();
      for (let cut = 0; cut < 20; cut += 1) {
        const end = random.between(1, recorder.events.length);
        const path = await rawFile(folder, 'cut.vmdk', recorder.afterCut(0, end, random));
        const after = await hold(graph, {
          driver: 'vmdk',
          file: { driver: 'file', filename: path },
          ...backing,
        });
        t.is(compare(await readAll(after), moments, end), undefined);
        await after.write(Buffer.alloc(70_000, 1), 1_000_000);
        await release(graph, after);
        if (title !== 'vmfsSparse') t.is(await badGrains(path), '');
      }
    }
    t.pass();
  });
}

async function sparseImage(shape: Shape, options: Record<string, unknown> = {}): Promise<Made> {
  const path = join(shape.folder, 'new.vmdk');
  await createImage(shape.graph, { filename: path, format: 'vmdk', size: SIZE, options });
  return { image: await readFile(path), content: Buffer.alloc(SIZE) };
}

function vmfsSparseImage(): Promise<Made> {
  const content = Buffer.alloc(SIZE);
  return Promise.resolve({ image: cowd(content, { grainSectors: 8 }), content });
}

/** Over a parent a grain that is named before it is filled shows: zeroes where the parent had something. */
async function snapshotImage(shape: Shape): Promise<Made> {
  const { image } = await sparseImage(shape, { backing_file: 'parent.raw', 'parent-cid': '1' });
  const content = mixedDisk(17, SIZE);
  const filename = await rawFile(shape.folder, 'parent.raw', content);
  return { image, content, backing: { backing: { driver: 'raw', file: { driver: 'file', filename } } } };
}
/** Grains that two entries name, or that lie outside the file; the redundant tables may be one write behind. */
async function badGrains(path: string): Promise<string> {
  const bytes = await readFile(path);
  const grains = hostedTables(bytes, 'primary').filter((entry) => entry !== 0);
  const outside = grains.filter((entry) => entry * 512 >= bytes.length || entry < 64);
  if (outside.length > 0) return `outside the file: ${outside.join()}`;
  return new Set(grains).size === grains.length ? '' : 'named twice';
}

test('vmdk: a failed flush is not forgotten, a failed write leaves the tables as they were', async (t) => {
  const graph = graphWith(t, vmdkDriver);
  const folder = await tempDir(t);
  const random = new Random(seed(52));
  const recorder = new Recorder();
  const file = new GrowingDisk(recorder, (await sparseImage({ graph, folder })).image, random);
  const recorded = graphWith(t, vmdkDriver, recordedDriver({ file }));
  const disk = await hold(recorded, {
    driver: 'vmdk',
    file: { driver: 'recorded-image', 'node-name': 'file' },
  });
  await disk.write(Buffer.alloc(4096, 1), 0);
  await disk.flush();
  recorder.failing = 0.5;
  const model = new ModelDisk(SIZE);
  model.bytes.fill(1, 0, 4096);
  for (let count = 0; count < 40; count += 1) {
    const offset = 65_536 * random.between(1, 30);
    const bytes = Buffer.alloc(65_536, count + 1);
    const done = await disk.write(bytes, offset).then(
      () => true,
      (error: unknown) => !(error instanceof BlockError),
    );
    if (done) model.write(bytes, offset);
    else await disk.read(model.read(offset, 65_536), offset);
  }
  let failures = 0;
  for (let count = 0; count < 12; count += 1) await disk.flush().catch(() => (failures += 1));
  recorder.failing = 0;
  t.true(failures > 0);
  await t.throwsAsync(disk.flush(), { message: /an earlier flush failed/ });
  t.is(difference(await readAll(disk), model.bytes), undefined);
  await t.throwsAsync(release(recorded, disk), { message: /an earlier flush failed/ });
});
