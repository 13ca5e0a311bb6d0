/**
 * The server dies (kill -9) while a program writes: the image must be sound but for leaks, and everything that an fsync
 * covered must be there. Unlike in a power cut, what the server had handed to the host's kernel stays.
 */
import { open, readFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import type { ChainShape } from '../helpers/chain.ts';
import { makeChain } from '../helpers/chain.ts';
import { fallocate } from '../helpers/fallocate.ts';
import { isAlive, mountImage } from '../helpers/mounted.ts';
import type { MountedImage } from '../helpers/mounted.ts';
import { blockfuse } from '../helpers/program.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { CrashLog } from './crash-log.ts';

const BLOCK = 4096;
const SIZE = 16 * 1024 * 1024;
const WRITERS = 6;

/** Writers that each own every n-th block, until the server is gone. */
class Writers {
  private readonly handle: FileHandle;
  private readonly log: CrashLog;
  private readonly random: Random;
  answered = 0;
  synced = 0;

  constructor(handle: FileHandle, log: CrashLog, random: Random) {
    this.handle = handle;
    this.log = log;
    this.random = random;
  }

  async run(): Promise<void> {
    await Promise.all(
      Array.from({ length: WRITERS }, (_, writer) => this.work(writer).catch(() => undefined)),
    );
  }

  /** Waits for as many fsyncs to be answered. */
  async haveSynced(count: number): Promise<void> {
    while (this.synced < count) await delay(2);
  }

  private async work(writer: number): Promise<void> {
    for (;;) {
      if (this.random.chance(0.03)) await this.sync();
      else await this.change(this.random.below(SIZE / BLOCK / WRITERS) * WRITERS + writer);
    }
  }

  private async change(block: number): Promise<void> {
    const zero = this.random.chance(0.2);
    const bytes = zero ? Buffer.alloc(BLOCK) : Buffer.alloc(BLOCK, this.random.bytes(8));
    this.log.begin(block, bytes);
    if (zero) await fallocate(this.handle.fd, 'punchHole', block * BLOCK, BLOCK);
    else await this.handle.write(bytes, 0, BLOCK, block * BLOCK);
    this.log.answer(block);
    this.answered += 1;
  }

  private async sync(): Promise<void> {
    const done = this.log.beginSync();
    await this.handle.datasync();
    done();
    this.synced += 1;
  }
}

async function kill(mounted: MountedImage): Promise<void> {
  process.kill(mounted.pid, 'SIGKILL');
  while (await isAlive(mounted.pid)) await delay(2);
}

const survives = test.macro(async (t: ExecutionContext, given: Partial<ChainShape>) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  for (let round = 0; round < rounds(2, 20); round += 1) {
    const random = new Random(seed(900 + round));
    const folder = await tempDir(t);
    const { image, model } = await makeChain(
      folder,
      { format: 'qcow2', depth: 1, size: SIZE, ...given },
      random,
    );
    const mounted = await mountImage(t, image);
    const handle = await open(mounted.file, 'r+');
    const log = new CrashLog(model, BLOCK);
    const writers = new Writers(handle, log, random);
    const writing = writers.run();
    await writers.haveSynced(random.between(1, 4));
    await delay(random.between(0, 200));
    await kill(mounted);
    await writing;
    await handle.close().catch(() => undefined);
    await mounted.unmount();
    t.log(`${writers.answered} writes and ${writers.synced} fsyncs were answered`);
    await judge(t, folder, image, log);
  }
});

/** Leaks (exit code 3) are what a crash may leave behind. */
async function judge(t: ExecutionContext, folder: string, image: string, log: CrashLog): Promise<void> {
  const check = await attempt('qemu-img', ['check', '-f', 'qcow2', image]);
  t.true(
    check.code === 0 || check.code === 3,
    `qemu-img check: exit code ${check.code}\n${check.stdout}${check.stderr}`,
  );
  t.false(/^ERROR/m.test(check.stdout + check.stderr), check.stdout + check.stderr);
  const flat = `${folder}/after.raw`;
  await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, flat]);
  t.is(log.firstWrong(await readFile(flat)), undefined, 'a block that was fsynced is not as it was');
}

test.serial('a killed server leaves a sound qcow2 image', survives, {});
test.serial('with 512 byte clusters', survives, { create: 'cluster_size=512' });
test.serial('with 2 MiB clusters', survives, { create: 'cluster_size=2M' });
test.serial('over a compressed image', survives, { compressed: true });
test.serial('an overlay', survives, { depth: 2 });

test.serial('with lazy refcounts the next mount repairs what the crash left', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const random = new Random(seed(950));
  const folder = await tempDir(t);
  const shape = { format: 'qcow2', depth: 1, size: SIZE, create: 'lazy_refcounts=on' };
  const { image, model } = await makeChain(folder, shape, random);
  const mounted = await mountImage(t, image);
  const handle = await open(mounted.file, 'r+');
  const log = new CrashLog(model, BLOCK);
  const writing = new Writers(handle, log, random).run();
  await delay(300);
  await kill(mounted);
  await writing;
  await handle.close().catch(() => undefined);
  await mounted.unmount();
  const again = await mountImage(t, image);
  await again.unmount();
  await judge(t, folder, image, log);
});

test.serial('a killed server can be unmounted and mounted again, and list forgets it', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const { image } = await makeChain(folder, { format: 'qcow2', depth: 1, size: SIZE }, new Random(1));
  const mounted = await mountImage(t, image);
  await kill(mounted);
  const { stdout } = await blockfuse(['list', '--json']);
  t.false(stdout.includes(`"pid": ${mounted.pid}`), stdout);
  await mounted.unmount();
  const again = await mountImage(t, image, [mounted.mountpoint]);
  t.is((await readFile(again.file)).length, SIZE);
});
