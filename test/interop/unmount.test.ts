/** Unmounting when it is not simple: the image is final when the command returns. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, tool } from '../helpers/tools.ts';

test('a copy of the mount in another mount namespace does not keep the image open', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'unshare')) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
  const mounted = await mountImage(t, image);
  const elsewhere = spawn(
    tool('unshare'),
    ['--mount', '--propagation', 'private', 'sh', '-c', 'echo in; exec sleep 60'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  t.teardown(async () => {
    elsewhere.kill('SIGKILL');
    await once(elsewhere, 'close');
  });
  await once(elsewhere.stdout, 'data');
  const file = await open(mounted.file, 'r+');
  await file.write(Buffer.alloc(65_536, 1), 0, 65_536, 0);
  await file.close();
  await mounted.unmount();
  const { stdout } = await run('qemu-img', ['map', '--output=json', image]);
  t.regex(stdout, /"start": 0, "length": 65536, .*"data": true/);
  await run('qemu-img', ['check', image]);
});
