/** What `blockfuse formats` says is what images let be done with them. */
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { makeGraph } from '../../src/cli/open-graph.ts';
import { blockfuse } from '../helpers/program.ts';
import { tempDir } from '../helpers/temp-dir.ts';

interface FormatRow {
  readonly name: string;
  readonly read: boolean;
  readonly write: boolean;
  readonly create: boolean;
  readonly subformats?: readonly { name: string; read: boolean; write: boolean; create: boolean }[];
}

const rows = async (): Promise<FormatRow[]> =>
  JSON.parse((await blockfuse(['formats', '--json'])).stdout) as FormatRow[];

test('formats: which drivers only read, and what the shapes of a format can', async (t) => {
  const onlyRead = (await rows()).filter(({ read, write }) => read && !write).map(({ name }) => name);
  t.deepEqual(onlyRead.sort(), ['bochs', 'cloop', 'dmg', 'gzip', 'http', 'https', 'vvfat', 'xz', 'zstd']);
  const { stdout } = await blockfuse(['formats', 'vmdk']);
  t.regex(stdout, /\nstreamOptimized +read create\nseSparse +read\n/);
});

test('formats: each shape is created and opened for writing as it says', async (t) => {
  const folder = await tempDir(t);
  for (const { name: format, subformats = [] } of await rows()) {
    for (const { name, write, create } of subformats) {
      const graph = makeGraph({}, () => {});
      t.teardown(() => graph.close());
      const filename = join(folder, `${name}.${format}`);
      const parent = { backing_file: join(folder, `dynamic.${format}`), backing_fmt: format };
      const options = { subformat: name, ...(name === 'differencing' ? parent : {}) };
      const made = await createImage(graph, { filename, format, size: 1024 * 1024, options }).then(
        () => true,
        () => false,
      );
      t.is(made, create, `create ${format} ${name}`);
      if (!made) continue;
      const opening = graph.open({ driver: format, file: { driver: 'file', filename } });
      const writable = await opening.then(
        (node) => !node.readOnly,
        () => false,
      );
      t.is(writable, write, `write ${format} ${name}`);
      await graph.close();
    }
  }
});

test('formats: a driver that says it only reads opens nothing for writing', (t) => {
  for (const driver of DRIVERS.filter(({ onlyRead }) => onlyRead === true)) {
    t.false('create' in driver, driver.name);
    t.true(
      (driver.subformats ?? []).every(({ write, create }) => !write && !create),
      driver.name,
    );
  }
});
