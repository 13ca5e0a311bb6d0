import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { testGraph } from '../helpers/graph.ts';

/** Whether a promise is settled after a while. */
async function isOver(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), delay(20, false)]);
}

test('a change holds back whoever asks for status, as it does readers', async (t) => {
  const graph = testGraph(t);
  const node = await graph.open({ driver: 'mem', size: 65536 });
  const job = graph.attachRoot(node, { name: 'job', used: 1 });
  const gate = Promise.withResolvers<void>();
  const change = graph.change([node], () => gate.promise);
  await delay(1);
  const status = job.status(0, 65536, new BlockStatus());
  t.false(await isOver(status));
  gate.resolve();
  await change;
  await t.notThrowsAsync(status);
});

test('a door that is made during a change waits for its end, above the node and above what is put on it', async (t) => {
  const graph = testGraph(t, [rawDriver]);
  const node = await graph.open({ driver: 'mem', 'node-name': 'disk', size: 65536 });
  const other = await graph.open({ driver: 'mem', size: 65536 });
  const gate = Promise.withResolvers<void>();
  const change = graph.change([node], () => gate.promise);
  await delay(1);
  let drains = 0;
  const hooks = { drainBegin: () => (drains += 1), drainEnd: () => (drains -= 1) };
  const late = graph.attachRoot(node, { name: 'late', used: 3 });
  const window = await graph.open({ driver: 'raw', file: 'disk', size: 4096 });
  const above = graph.attachRoot(window, { name: 'above', used: 3, hooks });
  const free = graph.attachRoot(other, { name: 'free', used: 3 });
  const bytes = Buffer.alloc(512, 1);
  t.is(drains, 1);
  t.false(late.tryWrite(bytes, 0, 512, 0));
  t.false(above.tryWrite(bytes, 0, 512, 0));
  t.true(free.tryWrite(bytes, 0, 512, 0));
  const written = [late, above].map((door) => door.write(bytes, 0));
  for (const write of written) t.false(await isOver(write));
  gate.resolve();
  await change;
  await Promise.all(written);
  t.is(drains, 0);
  t.true(above.tryWrite(bytes, 0, 512, 0));
});
