/** Persistent bitmaps of a qcow2 image that is reopened, copied and measured. What they hold: qcow2-combinations.test.ts. */
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { runActions } from '../../src/control/actions/action.ts';
import { addBitmap } from '../../src/control/actions/bitmap.ts';
import { qemuExtents } from '../helpers/dirty-extents.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
const NODE = 'disk';

interface StoredBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly flags: readonly string[];
}

async function bitmapsByQemu(image: string): Promise<readonly StoredBitmap[]> {
  const { stdout } = await run('qemu-img', ['info', '-U', '--output=json', image]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps?: StoredBitmap[] } } };
  return info['format-specific'].data.bitmaps ?? [];
}

test.serial('reopened for writing and back: stored, in use while it may be written', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-nbd', 'nbdinfo')) return;
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', image, '16M']);
  await run('qemu-img', ['bitmap', '--add', '-g', '4k', image, 'b']);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const common = { driver: 'qcow2', 'node-name': NODE, file: { driver: 'file', filename: image } };
  const node = await graph.open({ ...common, 'read-only': true });
  const door = graph.attachRoot(node, { name: 'test', used: 1 });
  const add = (name: string) => addBitmap(graph, { node: NODE, name, persistent: true, disabled: false });
  await t.throwsAsync(runActions(graph, [add('c')]), { message: /read-only/ });
  for (const offset of [0, 5 * MIB]) {
    await graph.reopen([{ node, options: { ...common, 'read-only': false } }]);
    t.deepEqual(
      (await bitmapsByQemu(image)).map(({ flags }) => flags),
      [['auto']],
      'nothing was written yet',
    );
    graph.setRootPermissions(door, { used: 15, shared: 15 });
    await door.write(Buffer.alloc(5000, 1), offset);
    t.deepEqual(
      (await bitmapsByQemu(image)).map(({ flags }) => flags),
      [['in-use', 'auto']],
    );
    graph.setRootPermissions(door, { used: 1, shared: 15 });
    await graph.reopen([{ node, options: { ...common, 'read-only': true } }]);
    t.deepEqual(
      (await bitmapsByQemu(image)).map(({ flags }) => flags),
      [['auto']],
    );
  }
  await graph.close();
  const wanted = [
    [0, 8192],
    [5 * MIB, 8192],
  ] as const;
  t.deepEqual(await qemuExtents(image, 'b'), wanted);
  const copy = `${image}.copy`;
  await blockfuse(['convert', '--bitmaps', '-O', 'qcow2', image, copy]);
  t.deepEqual(await qemuExtents(copy, 'b'), wanted);
  t.deepEqual(
    (await bitmapsByQemu(copy)).map(({ flags }) => flags),
    [['auto']],
  );
  await t.notThrowsAsync(run('qemu-img', ['check', copy]));
  const other = await attemptBlockfuse(['convert', '--bitmaps', '-O', 'vmdk', image, `${image}.vmdk`]);
  t.regex(other.stderr, /format "vmdk" keeps no bitmaps/);
  for (const options of ['cluster_size=64k', 'cluster_size=512', 'compat=0.10']) {
    const args = ['measure', '-O', 'qcow2', '-o', options, image];
    const measured = async (output: Promise<{ stdout: string }>): Promise<unknown> =>
      (JSON.parse((await output).stdout) as { bitmaps?: number }).bitmaps;
    const [ours, theirs] = [blockfuse([...args, '--json']), run('qemu-img', [...args, '--output=json'])];
    t.is(await measured(ours), await measured(theirs), options);
  }
});

test.serial(
  'a very fine bitmap of a large disk is kept, and takes memory only for what it says',
  async (t) => {
    if (!canRun(t, 'qemu-img', 'qemu-nbd', 'nbdinfo')) return;
    const size = 600 * 1024 * MIB;
    const image = join(await tempDir(t), 'image.qcow2');
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'cluster_size=4k', image, `${size}`]);
    await run('qemu-img', ['bitmap', '--add', '-g', '512', image, 'fine']);
    const wanted: [number, number][] = [];
    for (const at of [5, 300_000, 600_000]) {
      const before = process.memoryUsage().arrayBuffers;
      const graph = new Graph({ drivers: DRIVERS });
      t.teardown(() => graph.close());
      const node = await graph.openImage(image, 'qcow2');
      const door = graph.attachRoot(node, { name: 'test', used: 15 });
      t.is(node.watch?.bitmaps.get('fine')?.dirtyBytes, wanted.length * 1024);
      await door.write(Buffer.alloc(1024, 1), at * MIB + 512);
      wanted.push([at * MIB + 512, 1024]);
      t.true(process.memoryUsage().arrayBuffers - before < 100 * MIB);
      await graph.close();
    }
    t.deepEqual(await qemuExtents(image, 'fine'), wanted);
    await t.notThrowsAsync(run('qemu-img', ['check', image]));
  },
);
