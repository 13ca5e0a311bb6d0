import type { ExecutionContext } from 'ava';
import { memDriver } from '../../drivers/protocol/mem.ts';
import type { Child } from '../../src/block/child.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import type { Driver } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS } from '../../src/block/permissions.ts';
import { evictingDriver } from './evicting-format.ts';
import type { Disk } from './exercise.ts';
import type { Random } from './random.ts';
import { slowDriver } from './slow-disk.ts';

/** A graph with the memory and test drivers, closed when the test ends. */
export function testGraph(t: ExecutionContext, drivers: readonly Driver[] = []): Graph {
  const graph = new Graph({ drivers: [memDriver, slowDriver, evictingDriver, ...drivers] });
  t.teardown(() => graph.close());
  return graph;
}

/** Opens an options tree and holds its top node, by default with every permission. */
export async function openRoot(
  graph: Graph,
  options: Record<string, unknown>,
  used = ALL_PERMISSIONS,
): Promise<Child> {
  const node = await graph.open(options);
  return graph.attachRoot(node, { name: 'test', label: 'the test', used });
}

/** A door as a disk to exercise. With `random`, requests try the synchronous path first, now and then. */
export function childDisk(child: Child, random?: Random): Disk {
  const hasty = (): boolean => random?.chance(0.5) ?? false;
  return {
    async read(bytes, offset) {
      if (hasty() && child.tryRead(bytes, 0, bytes.length, offset)) return;
      await child.read(bytes, offset);
    },
    async write(bytes, offset) {
      if (hasty() && child.tryWrite(bytes, 0, bytes.length, offset)) return;
      await child.write(bytes, offset);
    },
    zero: (offset, length, mayUnmap) => child.writeZeroes(offset, length, mayUnmap ? ZeroFlag.mayUnmap : 0),
    discard: (offset, length) => child.discard(offset, length),
    flush: () => child.flush(),
  };
}
