/** Formats on formats: each moves bytes that the one below is moving as well. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { startContent } from '../helpers/evicting-format.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk, openRoot, testGraph } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';

const OUTER = { size: 400_000, cluster: 4096, seed: 31 };

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
