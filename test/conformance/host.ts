import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../helpers/run.ts';
import type { Subject } from './subject.ts';

const OFFSET = 1_049_088;
const AROUND = Buffer.alloc(OFFSET, 0xee);

/** A piece of a file, with something else before and behind it that has to stay as it is. */
export const RAW_WINDOW: Subject = {
  name: 'raw with offset and size',
  driver: 'raw',
  tools: [],
  can: { probe: false },
  async make(folder, content) {
    const path = join(folder, 'disk.raw');
    await writeFile(path, Buffer.concat([AROUND, content, AROUND]));
    const file = { driver: 'file', filename: path };
    return { path, options: { driver: 'raw', offset: OFFSET, size: content.length, file } };
  },
  async judge({ path = '' }, content) {
    const found = await readFile(path);
    if (!found.equals(Buffer.concat([AROUND, content, AROUND]))) {
      throw new Error('The file is not what was written, or was written around the window');
    }
  },
};

/** A loop device. */
export const HOST_DEVICE: Subject = {
  name: 'host_device',
  driver: 'host_device',
  tools: ['losetup'],
  root: true,
  can: { probe: false },
  size: 3 * 1024 * 1024 + 4096,
  async make(folder, content) {
    const file = join(folder, 'disk.raw');
    await writeFile(file, content);
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    const path = stdout.trim();
    return {
      path,
      options: { driver: 'host_device', filename: path },
      end: async () => {
        await run('losetup', ['--detach', path]);
      },
    };
  },
  async judge({ path = '' }, content) {
    await run('blockdev', ['--flushbufs', path]);
    const handle = await open(path);
    try {
      const { buffer } = await handle.read(Buffer.alloc(content.length), 0, content.length, 0);
      if (!buffer.equals(content)) throw new Error('The device does not hold what was written');
    } finally {
      await handle.close();
    }
  },
};
