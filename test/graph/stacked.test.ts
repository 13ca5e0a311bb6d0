/** Formats on formats: each moves bytes that the one below is moving as well. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { DataCodec, MappingDriver } from '../../src/block/driver.ts';
import type { Extent } from '../../src/block/extent.ts';
import { NO_LIMITS } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';
import { startContent } from '../helpers/evicting-format.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk, openRoot, testGraph } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';

const OUTER = { size: 400_000, cluster: 4096, seed: 31 };

/** A disk in a file byte for byte, but for a key: what LUKS is to the core. */
class Cipher implements MappingDriver {
  readonly family = 'mapping';
  readonly limits = NO_LIMITS;
  private readonly file: Child;

  constructor(file: Child) {
    this.file = file;
  }

  get size(): number {
    return this.file.size;
  }

  get codec(): DataCodec {
    const apply: DataCodec['encode'] = (bytes, at, length) => {
      for (let index = at; index < at + length; index += 1) bytes[index] = (bytes[index] ?? 0) ^ KEY;
    };
    return { unit: 1, encode: apply, decode: apply };
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return out.setData(this.file, offset, Math.min(max, this.size - offset), true);
  }

  load(): Promise<void> {
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const KEY = 0x5a;
const cipherDriver = defineDriver({
  name: 'cipher',
  kind: 'format',
  summary: 'Stores bytes under a key',
  options: {},
  children: { file: { roles: Role.data | Role.primary, required: true, summary: 'The file' } },
  open: (context) => Promise.resolve(new Cipher(context.child('file'))),
});

test('an encrypted disk in an image that has to copy on write', async (t) => {
  for (let round = 0; round < rounds(10, 100); round += 1) {
    const graph = testGraph(t, [cipherDriver]);
    const file = { driver: 'evicting', ...OUTER, cluster: 16_384, file: { driver: 'mem' } };
    const root = await openRoot(graph, { driver: 'cipher', file });
    const model = new ModelDisk(OUTER.size);
    for (const [at, byte] of startContent({ ...OUTER, cluster: 16_384 }, Buffer.alloc(0)).entries())
      model.bytes[at] = byte ^ KEY;
    const random = new Random(seed(400 + round));
    for (let count = 0; count < 200; count += 1) {
      const bytes = random.bytes(random.between(1, 9000));
      const offset = random.below(OUTER.size - bytes.length);
      await root.read(Buffer.alloc(bytes.length), offset);
      if (!root.tryWrite(bytes, 0, bytes.length, offset)) await root.write(bytes, offset);
      model.write(bytes, offset);
    }
    await verify(root, model);
  }
  t.pass();
});

const stacked = test.macro(async (t: ExecutionContext, codec: boolean, inner: number, storage: string) => {
  for (let round = 0; round < rounds(3, 100); round += 1) {
    const graph = testGraph(t);
    const file = {
      driver: 'evicting',
      size: 500_000,
      cluster: inner,
      seed: 32 + round,
      blank: true,
      file: { driver: storage },
    };
    const root = await openRoot(graph, { driver: 'evicting', ...OUTER, codec, file, discard: 'unmap' });
    const model = new ModelDisk(OUTER.size);
    startContent(OUTER, Buffer.alloc(0)).copy(model.bytes);
    const random = new Random(seed(300 + round));
    const disk = childDisk(root, random);
    await exercise(disk, model, {
      random,
      operations: 300,
      concurrency: 6,
      maxLength: 20_000,
      borders: [4096],
    });
    await verify(disk, model);
    await graph.close();
  }
  t.pass();
});

test('an encrypted image in an image with larger clusters', stacked, true, 16_384, 'mem');
test('an encrypted image in an image with smaller clusters', stacked, true, 1024, 'mem');
test('an image in an image', stacked, false, 16_384, 'mem');
test('an encrypted image in an image on a slow disk', stacked, true, 16_384, 'slow');
