/** Rules about the project as a whole: drivers, sizes, names, and that the documents name what exists. */
import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { LOG_COMPONENTS } from '../../src/cli/log-components.ts';
import { describeSchema } from '../../src/cli/describe-schema.ts';
import { attempt } from '../helpers/run.ts';
import { root, sources } from './sources.ts';

test('the list of drivers holds every driver of the folders, each once', (t) => {
  const declared = sources('drivers')
    .flatMap(({ text }) => [...text.matchAll(/defineDriver\(\{\s*name: '([^']+)'/g)])
    .map(([, name = '']) => name);
  const inOrder = (names: readonly string[]): string[] =>
    names.toSorted((one, other) => one.localeCompare(other));
  t.deepEqual(inOrder(DRIVERS.map(({ name }) => name)), inOrder(declared));
});

test('drivers say what they are, and describe every option', (t) => {
  for (const driver of DRIVERS) {
    t.regex(driver.summary, /^[A-Z].*[^.]$/, driver.name);
    for (const [name, schema] of Object.entries({ ...driver.options, ...driver.createOptions })) {
      t.not(describeSchema(schema), '', `option ${name} of ${driver.name}`);
    }
  }
});

test('drivers lie in the folder of their kind', (t) => {
  for (const { path, text } of sources('drivers')) {
    for (const [, kind = ''] of text.matchAll(/defineDriver\([^]*?kind: '([^']+)'/g)) {
      t.true(path.startsWith(`drivers/${kind}/`), path);
    }
  }
});

test('commands have a summary without a full stop, and describe every option', (t) => {
  for (const command of COMMANDS) {
    t.regex(command.summary, /^[A-Z].*[^.]$/, command.name);
    for (const [name, option] of Object.entries(command.options)) {
      t.not(describeSchema(option.schema), '', `option ${name} of ${command.name}`);
    }
  }
});

test('files and functions stay small, and nothing is any', async (t) => {
  const limits = ['max-lines', 'max-lines-per-function', 'no-explicit-any', 'no-non-null-assertion'];
  const config = readFileSync(`${root}.oxlintrc.json`, 'utf8');
  for (const rule of limits) t.regex(config, new RegExp(`${rule}": (\\[\\s*)?"error"`));
  const folders = ['src', 'drivers', 'mount', 'test'];
  const { stdout } = await attempt(`${root}node_modules/.bin/oxlint`, ['--format=unix', ...folders], {
    cwd: root,
  });
  const found = stdout.split('\n').filter((line) => limits.some((rule) => line.includes(`(${rule})`)));
  t.deepEqual(found, []);
});

test('no file is named for nothing in particular', (t) => {
  const found = sources('src', 'drivers', 'mount').filter(({ path }) =>
    /(^|\/)(utils?|helpers?|misc|common)(\.ts|\/)/.test(path.replace(/^src\/util\//, '')),
  );
  t.deepEqual(
    found.map(({ path }) => path),
    [],
  );
});

const DOCUMENTS = ['README.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', 'packaging/docs/writing-a-driver.md'];

test('the npm scripts that the documents name exist', (t) => {
  const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const document of DOCUMENTS) {
    const text = readFileSync(`${root}${document}`, 'utf8');
    const named = [...text.matchAll(/npm run ([\w:-]+)/g)].map(([, name = '']) => name);
    if (/\bnpm test\b/.test(text)) named.push('test');
    for (const name of named) t.truthy(manifest.scripts[name], `${document}: npm run ${name}`);
  }
});

test('the commands that README names exist', (t) => {
  const text = readFileSync(`${root}README.md`, 'utf8');
  const blocks = [...text.matchAll(/```sh\n([^]*?)```/g)].map(([, block = '']) => block).join('');
  const named = new Set([...blocks.matchAll(/^blockfuse ([a-z]+)/gm)].map(([, name = '']) => name));
  t.true(named.size > 3);
  for (const name of named)
    t.truthy(name === 'help' || COMMANDS.find((command) => command.name === name), name);
});

test('the files and folders that the documents name exist', (t) => {
  for (const document of DOCUMENTS) {
    const text = readFileSync(`${root}${document}`, 'utf8');
    for (const [, path = ''] of text.matchAll(/`((?:src|drivers|mount|test|packaging)\/[\w./-]*)`/g)) {
      t.true(existsSync(`${root}${path}`), `${document}: ${path}`);
    }
  }
});

test('components that log are listed, and only those', (t) => {
  const used = sources('src', 'drivers', 'mount').flatMap(({ text }) =>
    [...text.matchAll(/\b(?:createDebug|debug)\('blockfuse:([^']+)'\)/g)].map(([, name = '']) => name),
  );
  t.deepEqual([...new Set(used)].sort(), LOG_COMPONENTS.map(({ name }) => name).sort());
});
