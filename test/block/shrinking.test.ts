import test from 'ava';
import type { ExecutionContext } from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { RequestDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { limits } from '../../src/block/limits.ts';
import { testGraph } from '../helpers/graph.ts';

const SIZE = 65536;
const SMALL = 16384;

/** A growing disk in memory whose next change of size takes until it is let go. */
function stubborn() {
  let content = Buffer.alloc(SIZE, 0x11);
  const gate = Promise.withResolvers<void>();
  const impl: RequestDriver = {
    family: 'request',
    get size() {
      return content.length;
    },
    limits: limits({}),
    read(bytes, offset) {
      bytes.fill(0);
      if (offset < content.length) content.copy(bytes, 0, offset);
      return Promise.resolve();
    },
    write(bytes, offset) {
      const end = Math.max(content.length, offset + bytes.length);
      content = Buffer.concat([content, Buffer.alloc(end - content.length)]);
      bytes.copy(content, offset);
      return Promise.resolve();
    },
    async resize(size) {
      await gate.promise;
      content = Buffer.from(content.subarray(0, size));
    },
    flush: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const driver = defineDriver({
    name: 'stubborn',
    kind: 'protocol',
    summary: 'Shrinks when it is told to go on',
    options: {},
    children: {},
    open: () => Promise.resolve(impl),
  });
  return { driver, content: () => content, letGo: gate.resolve };
}

async function shrinkingUnder(t: ExecutionContext) {
  const disk = stubborn();
  const graph = testGraph(t, [rawDriver, disk.driver]);
  const node = await graph.open({ driver: 'raw', discard: 'unmap', file: { driver: 'stubborn' } });
  const [one, other] = ['one', 'other'].map((name) => graph.attachRoot(node, { name, used: 15 }));
  if (one === undefined || other === undefined) throw new Error('no doors');
  return { ...disk, other, shrunk: one.resize(SMALL, true) };
}

const NO_SPACE = { instanceOf: BlockError, code: 'ENOSPC' };

test('a write that waits while the disk shrinks is refused, not written to some other place', async (t) => {
  const { other, shrunk, content, letGo } = await shrinkingUnder(t);
  const written = other.write(Buffer.alloc(8192, 0x22), SMALL + 4096);
  const across = other.write(Buffer.alloc(8192, 0x33), SMALL - 4096);
  letGo();
  await shrunk;
  await t.throwsAsync(written, NO_SPACE);
  await t.throwsAsync(across, NO_SPACE);
  t.true(content().equals(Buffer.alloc(SMALL, 0x11)));
});

test('zeroes, discards and reads that wait while the disk shrinks stop at its new end', async (t) => {
  const { other, shrunk, content, letGo } = await shrinkingUnder(t);
  const zeroed = other.writeZeroes(SMALL + 4096, 8192);
  const discarded = other.discard(SMALL - 4096, 16384);
  const bytes = Buffer.alloc(8192, 0xff);
  const read = other.read(bytes, SMALL - 4096);
  letGo();
  await shrunk;
  await t.throwsAsync(zeroed, NO_SPACE);
  await discarded;
  await read;
  t.true(bytes.equals(Buffer.concat([Buffer.alloc(4096, 0x11), Buffer.alloc(4096)])));
  t.is(content().length, SMALL);
});
