import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { DiskExport } from '../../src/cli/server/disk-export.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { RequestDriver } from '../../src/block/driver.ts';
import { limits } from '../../src/block/limits.ts';
import { testGraph } from '../helpers/graph.ts';

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
