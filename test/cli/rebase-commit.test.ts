/** `rebase` and `commit` between files of all lengths: the disk stays as it is, as qemu-img sees it. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { commitImage } from '../../src/cli/commit-image.ts';
import { rebaseImage } from '../../src/cli/rebase-image.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
const SIZE = 5 * MIB + 512;
const VALUES = { format: undefined, 'image-opts': false, 'force-share': false, follow: 'rooted' } as const;

/** Files below: shorter and longer than the overlay, ending within a cluster, with holes. */
const BASES: Readonly<Record<string, Buffer>> = {
  tiny: Buffer.alloc(MIB + 512, 1),
  long: Buffer.concat([Buffer.alloc(MIB + 512, 1), Buffer.alloc(7 * MIB, 2)]),
  holes: Buffer.concat([Buffer.alloc(MIB), Buffer.alloc(MIB, 1), Buffer.alloc(4 * MIB)]),
};

async function makeTop(cwd: string, options: string, base: string): Promise<void> {
  const below = base === '' ? [] : ['-b', `${base}.raw`, '-F', 'raw'];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, ...below, 'made', `${SIZE}`], { cwd });
  const writes = ['-c', 'write -P 5 1M 100k', '-c', 'write -z 1500k 64k', '-c', 'write -P 6 4M 64k'];
  await run('qemu-io', [...writes, 'made'], { cwd });
  await run('qemu-img', ['convert', '-O', 'raw', 'made', 'want.raw'], { cwd });
}

for (const options of ['cluster_size=2M', 'extended_l2=on', 'compat=0.10']) {
  test.serial(`rebase from any file to any other one, or none: ${options}`, async (t) => {
    if (!canRun(t, 'qemu-img', 'qemu-io')) return;
    const cwd = await tempDir(t);
    const top = join(cwd, 'top');
    for (const [name, bytes] of Object.entries(BASES)) await writeFile(join(cwd, `${name}.raw`), bytes);
    for (const from of ['', ...Object.keys(BASES)]) {
      await makeTop(cwd, options, from);
      for (const to of ['', ...Object.keys(BASES)]) {
        await copyFile(join(cwd, 'made'), top);
        const backing = to === '' ? '' : `${to}.raw`;
        await rebaseImage(top, { ...VALUES, backing, 'backing-format': 'raw', unsafe: false });
        const compare = await attempt('qemu-img', ['compare', '-f', 'raw', 'want.raw', 'top'], { cwd });
        t.is(compare.code, 0, `${from} to ${to}: ${compare.stdout}${compare.stderr}`);
      }
      t.is((await attempt('qemu-img', ['check', 'top'], { cwd })).code, 0, from);
    }
  });
}

test.serial('commit into files of all lengths', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const cwd = await tempDir(t);
  for (const [base, bytes] of Object.entries(BASES)) {
    const keep = base === 'tiny';
    await writeFile(join(cwd, `${base}.raw`), bytes);
    await makeTop(cwd, 'cluster_size=2M', base);
    await commitImage(join(cwd, 'made'), { ...VALUES, base: undefined, keep });
    const compare = await attempt('qemu-img', ['compare', '-f', 'raw', 'want.raw', 'made'], { cwd });
    t.is(compare.code, 0, `${base}: ${compare.stdout}${compare.stderr}`);
    const map = (await run('qemu-img', ['map', '--output=json', 'made'], { cwd })).stdout;
    t.is(map.includes('"depth": 0, "present": true'), keep, base);
    const below = ['compare', '-f', 'raw', '-F', 'raw', 'want.raw', `${base}.raw`];
    t.is((await attempt('qemu-img', below, { cwd })).code, base === 'long' ? 1 : 0);
    t.is((await attempt('qemu-img', ['check', 'made'], { cwd })).code, 0, base);
  }
});
