import test from 'ava';
import type { ExecutionContext } from 'ava';
import { evictingDriver, startContent } from '../helpers/evicting-format.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk, openRoot, testGraph } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';

interface Shape {
  readonly size: number;
  readonly cluster: number;
  readonly depth: number;
  readonly protocol: 'mem' | 'slow';
  readonly codec?: boolean;
  readonly alignment?: number;
  readonly failures?: number;
}

interface Layered {
  readonly options: Record<string, unknown>;
  readonly content: Buffer;
}

function layers(shape: Shape, ownSeed: number): Layered {
  const { size, cluster, depth, protocol, codec = false, alignment = 1, failures = 0 } = shape;
  const below =
    depth > 1
      ? layers({ ...shape, size: size - 3000, depth: depth - 1, failures: 0 }, ownSeed + 1)
      : undefined;
  const roomy = ownSeed % 2 === 0 ? size * 3 : 0;
  const slow = { size: roomy, seed: ownSeed, alignment, 'fail-per-mille': failures };
  const options = {
    driver: evictingDriver.name,
    size,
    cluster,
    seed: ownSeed,
    codec,
    'fail-per-mille': failures,
    discard: 'unmap',
    file:
      protocol === 'mem' ? { driver: 'mem', size: roomy } : { driver: 'slow', ...slow, 'fail-per-mille': 0 },
    ...(below === undefined
      ? {}
      : { 'has-backing': true, backing: { ...below.options, 'read-only': false } }),
  };
  return {
    options,
    content: startContent({ size, cluster, seed: ownSeed }, below?.content ?? Buffer.alloc(0)),
  };
}

const survives = test.macro(async (t: ExecutionContext, shape: Shape) => {
  for (let round = 0; round < rounds(10, 200); round += 1) {
    const ownSeed = seed(1000 + round);
    const graph = testGraph(t);
    const { options, content } = layers(shape, ownSeed);
    const root = await openRoot(graph, options);
    const model = new ModelDisk(shape.size);
    model.write(content, 0);
    const random = new Random(ownSeed);
    const disk = childDisk(root, random);
    await verify(disk, model, 10_007);
    await exercise(disk, model, {
      random,
      operations: 250,
      concurrency: 12,
      maxLength: shape.cluster * 9,
      borders: [shape.cluster],
      mayFail: (error) => shape.failures !== undefined && String(error).includes('as asked'),
    }).catch((error: unknown) => {
      throw new Error(`seed ${ownSeed}: ${String(error)}`, { cause: error });
    });
    await verify(disk, model);
    await graph.close();
  }
  t.pass();
});

test('a mapping over memory keeps what was written', survives, {
  size: 1_000_000,
  cluster: 4096,
  depth: 1,
  protocol: 'mem',
});
test('over a slow disk', survives, { size: 1_000_000, cluster: 4096, depth: 1, protocol: 'slow' });
test('with a backing chain of 3', survives, { size: 700_001, cluster: 4096, depth: 3, protocol: 'slow' });
test('with 512 byte clusters', survives, { size: 100_100, cluster: 512, depth: 2, protocol: 'slow' });
test('with 64 KiB clusters', survives, { size: 3_000_000, cluster: 65536, depth: 2, protocol: 'slow' });
test('with a codec', survives, { size: 500_000, cluster: 4096, depth: 2, protocol: 'slow', codec: true });
test('over a disk with 512 byte sectors', survives, {
  size: 512_000,
  cluster: 4096,
  depth: 2,
  protocol: 'slow',
  alignment: 512,
});
test('when allocation fails now and then', survives, {
  size: 600_000,
  cluster: 4096,
  depth: 2,
  protocol: 'slow',
  failures: 50,
});
