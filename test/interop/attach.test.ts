/** attach and detach: an ext4 over a loop device over a mounted qcow2, again and again, with nothing left behind. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { isMounted } from '../helpers/mounted.ts';
import { blockfuse } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';

const ROUNDS = process.env['BLOCKFUSE_SOAK'] === '1' ? 100 : 6;

test.serial(`attach and detach ${ROUNDS} times, with writes in between`, async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'mkfs.ext4', 'fsck.ext4', 'losetup')) return;
  const dir = await tempDir(t);
  const raw = join(dir, 'fs.raw');
  const image = join(dir, 'fs.qcow2');
  const folder = join(dir, 'mnt');
  await mkdir(folder);
  await run('mkfs.ext4', ['-q', '-F', raw, '48M']);
  await run('qemu-img', ['convert', '-O', 'qcow2', raw, image]);
  t.teardown(() => blockfuse(['detach', image]).catch(() => undefined));
  for (let round = 0; round < ROUNDS; round += 1) {
    const { stdout } = await blockfuse(['attach', '--json', '--mount', folder, image]);
    const { device, mountpoint } = JSON.parse(stdout) as { device: string; mountpoint: string };
    for (let before = 0; before < round; before += 1) {
      t.is(await readFile(join(folder, `file${before}`), 'utf8'), `round ${before}\n`.repeat(1000));
    }
    await writeFile(join(folder, `file${round}`), `round ${round}\n`.repeat(1000));
    await blockfuse(['detach', device]);
    t.false(existsSync(`/sys/block/${device.slice('/dev/'.length)}/loop/backing_file`));
    t.false(await isMounted(folder));
    t.false(existsSync(mountpoint));
    await run('qemu-img', ['check', image]);
  }
  await run('qemu-img', ['convert', '-O', 'raw', image, raw]);
  await run('fsck.ext4', ['-fn', raw]);
  t.deepEqual(await readdir(folder), []);
});

test.serial('a partition that is not there leaves nothing behind', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'losetup')) return;
  const image = join(await tempDir(t), 'none.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
  await t.throwsAsync(blockfuse(['attach', '--partition', '1', image]), { message: /partition 1/ });
  const { stdout } = await blockfuse(['list', '--json']);
  t.false(stdout.includes(image));
});
