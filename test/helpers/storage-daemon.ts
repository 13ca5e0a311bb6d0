import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { QmpClient } from './serve.ts';
import { tempDir } from './temp-dir.ts';
import { tool } from './tools.ts';

/** qemu-storage-daemon with a monitor, for the rest of the test: the judge of what our server answers. */
export async function storageDaemon(t: ExecutionContext): Promise<{ client: QmpClient; folder: string }> {
  const folder = await tempDir(t);
  const path = join(folder, 'qmp.sock');
  const chardev = ['--chardev', `socket,path=${path},server=on,wait=off,id=c`, '--monitor', 'c'];
  const child = spawn(tool('qemu-storage-daemon'), chardev, { cwd: folder, stdio: 'ignore' });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGTERM');
    await ended;
  });
  while (!existsSync(path)) await sleep(10);
  return { client: await QmpClient.connect(t, path), folder };
}
