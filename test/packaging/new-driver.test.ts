/** The skeletons of `npm run new-driver`: in a copy of the project they compile, keep the rules and pass their own tests. */
import { cp, mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { attempt, run } from '../helpers/run.ts';
import type { Outcome } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PARTS = [
  ...['package.json', 'tsconfig.json', '.oxfmtrc.json', '.oxlintrc.json', 'src', 'drivers', 'mount'],
  ...['test/helpers', 'test/format/small-image.ts'],
];

async function copyOfProject(t: ExecutionContext): Promise<string> {
  const folder = await tempDir(t);
  for (const part of PARTS) await cp(join(ROOT, part), join(folder, part), { recursive: true });
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await mkdir(join(folder, 'packaging'));
  return folder;
}

const generate = (folder: string, ...args: string[]): Promise<Outcome> =>
  attempt(process.execPath, [join(ROOT, 'packaging/scripts/new-driver.mjs'), ...args], {
    env: { ...process.env, BLOCKFUSE_ROOT: folder },
  });

test('new drivers compile, keep the rules and pass their tests', async (t) => {
  const folder = await copyOfProject(t);
  const tool = (name: string, ...args: string[]) =>
    run(join(ROOT, 'node_modules/.bin', name), args, { cwd: folder });
  t.is((await generate(folder, 'my-format')).code, 0);
  t.is((await generate(folder, 'my-filter', 'filter')).code, 0);
  const made = ['drivers/format/my-format.ts', 'drivers/filter/my-filter.ts', 'drivers/index.ts'];
  const tests = ['test/format/my-format.test.ts', 'test/filter/my-filter.test.ts'];
  await tool('tsc', '--noEmit');
  await tool('oxfmt', '--check', ...made, ...tests);
  const { stdout: found } = await tool('oxlint', '--type-aware', ...made, ...tests);
  t.regex(found, /Found 0 warnings and 0 errors/);
  const ava = await run(process.execPath, ['node_modules/ava/entrypoints/cli.js', ...tests], {
    cwd: folder,
  });
  t.regex(ava.stdout, /6 tests passed/);
  const index = await readFile(join(folder, 'drivers/index.ts'), 'utf8');
  for (const name of ['myFormatDriver', 'myFilterDriver']) t.is(index.split(name).length, 3, name);
});

test('names that will not do are refused, and nothing is written over', async (t) => {
  const folder = await copyOfProject(t);
  const before = await readFile(join(folder, 'drivers/index.ts'), 'utf8');
  for (const args of [[], ['My'], ['../x'], ['raw'], ['qcow2'], ['good', 'protocol']]) {
    const outcome = await generate(folder, ...args);
    t.is(outcome.code, 2, args.join(' '));
    t.is(outcome.stderr.trimEnd().split('\n').length, 1);
  }
  t.is(await readFile(join(folder, 'drivers/index.ts'), 'utf8'), before);
});
