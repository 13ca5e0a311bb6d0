import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { DiskExport } from '../../src/cli/server/disk-export.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { RequestDriver } from '../../src/block/driver.ts';
import { limits } from '../../src/block/limits.ts';
import { testGraph } from '../helpers/graph.ts';
import { serve } from '../helpers/serve.ts';

/** A disk that grows slowly, and notes the order of what reaches it. */
function slowGrower() {
  const calls: string[] = [];
  let size = 65536;
  const impl: RequestDriver = {
    family: 'request',
    get size() {
      return size;
    },
    limits: limits({}),
    read: (bytes) => Promise.resolve(void bytes.fill(0)),
    write(_bytes, offset) {
      calls.push(`write at ${offset}`);
      return Promise.resolve();
    },
    async resize(wanted) {
      await delay(50);
      size = wanted;
      calls.push('resize');
    },
    flush: () => Promise.resolve(void calls.push('flush')),
    close: () => Promise.resolve(void calls.push('close')),
  };
  const driver = defineDriver({
    name: 'slow-grower',
    kind: 'protocol',
    summary: 'Grows slowly',
    options: {},
    children: {},
    open: () => Promise.resolve(impl),
  });
  return { driver, calls };
}

test('an export that ends while in use flushes after the last step of what was under way', async (t) => {
  const { driver, calls } = slowGrower();
  const graph = testGraph(t, [rawDriver, driver]);
  const node = await graph.open({ driver: 'raw', file: { driver: 'slow-grower' } });
  const spec = {
    id: 'e',
    nodeName: node.name,
    mountpoint: '/nowhere',
    writable: true,
    growable: true,
    allowOther: 'off',
    writeThrough: false,
    passthrough: false,
    mountWords: [],
  } as const;
  const disk = new DiskExport(
    graph,
    spec,
    () => undefined,
    () => [disk],
  );
  // It grows the disk first, then writes.
  const write = disk.fuse.run({ cancel: undefined }, (root) => root.write(Buffer.alloc(4096), 65536, 0));
  await disk.close();
  await graph.remove(node.name);
  await write;
  t.is(calls[0], 'resize');
  t.is(calls[1], 'write at 65536');
  t.true(calls.slice(2).includes('flush'));
  t.is(calls.at(-1), 'close');
});

test('a signal ends a server of which one disk can not be flushed and another is in use, and tells of both', async (t) => {
  const served = await serve(t);
  const { client, folder, child } = served;
  for (const name of ['bad.raw', 'on-bad', 'on-busy'])
    await writeFile(join(folder, name), Buffer.alloc(4096));
  await client.run('blockdev-add', {
    'node-name': 'bad',
    driver: 'blkdebug',
    image: { driver: 'file', filename: join(folder, 'bad.raw') },
    'inject-error': [{ event: 'flush_to_disk', errno: 5 }],
  });
  await client.run('blockdev-add', { driver: 'mem', 'node-name': 'busy', size: 4096 });
  for (const name of ['bad', 'busy']) {
    const mountpoint = join(folder, `on-${name}`);
    const spec = { type: 'fuse', id: name, 'node-name': name, writable: true, mountpoint };
    await client.run('block-export-add', spec);
  }
  const user = await open(join(folder, 'on-busy'), 'r+');
  t.teardown(() => user.close().catch(() => undefined));
  child.kill('SIGTERM');
  t.is(await served.ended(), 1);
  t.is(served.stderr().match(/Cannot flush "bad"/g)?.length, 1);
  t.regex(served.stderr(), /detached because of a signal/);
});
