/**
 * Opens each image of a list for writing, reads, writes, zeroes, flushes and closes; prints what came of it. A process of its
 * own, so that memory and time of the processor can be measured and a crash is told from an error. Errors other than
 * BlockError end it.
 */
import { readFileSync } from 'node:fs';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';

const MIB = 1024 * 1024;

async function main(list: string): Promise<void> {
  const result = { served: 0, refused: 0, slowest: 0, memory: 0, why: '' };
  for (const path of readFileSync(list, 'utf8').split('\n')) {
    const start = process.cpuUsage();
    const why = await survive(path);
    if (why === undefined) result.served += 1;
    else {
      result.refused += 1;
      result.why = why;
    }
    const { user, system } = process.cpuUsage(start);
    result.slowest = Math.max(result.slowest, Math.round((user + system) / 1000));
  }
  result.memory = Math.round(process.resourceUsage().maxRSS / 1024);
  process.stdout.write(JSON.stringify(result));
}

/** Why a request was refused; undefined: each was served. */
async function survive(path: string): Promise<string | undefined> {
  const graph = new Graph({ drivers: DRIVERS });
  let why: string | undefined;
  const attempt = async (run: () => Promise<unknown>): Promise<void> => {
    try {
      await run();
    } catch (error) {
      if (
        !(error instanceof BlockError) ||
        error.cause instanceof TypeError ||
        error.cause instanceof RangeError
      )
        throw error;
      why ??= error.message;
    }
  };
  await attempt(async () => {
    const node = await graph.openImage(path, 'qcow2', { discard: 'unmap', backing: null });
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    await use(disk, attempt);
    await attempt(async () => node.driver.check?.(node.impl, { repair: 'none' }));
  });
  await attempt(() => graph.close());
  return why;
}

type Attempt = (run: () => Promise<unknown>) => Promise<void>;

async function use(disk: Child, attempt: Attempt): Promise<void> {
  const bytes = Buffer.alloc(MIB);
  for (const offset of [0, 30 * MIB, Math.max(0, disk.size - MIB)]) {
    await attempt(() => disk.read(bytes, offset));
    await attempt(() => disk.write(bytes.subarray(0, 70_000), offset));
    await attempt(() => disk.writeZeroes(offset, 200_000, ZeroFlag.mayUnmap));
    await attempt(() => disk.flush());
  }
  await attempt(() => disk.discard(0, 60 * MIB));
}

await main(process.argv[2] ?? '');
