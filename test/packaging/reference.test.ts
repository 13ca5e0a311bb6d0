/** The manual and the completions, against what the program itself says in its help. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { referenceFiles } from '../../packaging/reference/files.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { describeSchema } from '../../src/cli/describe-schema.ts';
import { blockfuse } from '../helpers/command.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const FILES = new Map(referenceFiles('2024-02-29').map(({ path, text }) => [path, text]));
const PAGES = [...FILES].filter(([path]) => path.startsWith('man/'));

/** A page without its markup, every run of blanks one blank. */
function plain(path: string): string {
  const source = FILES.get(path) ?? '';
  const text = source
    .replaceAll(/^\.(\\".*|[A-Z]{2}|[a-z]{2})\b ?/gm, '')
    .replaceAll(/\\f[BIR]|\\&/g, '')
    .replaceAll('\\-', '-')
    .replaceAll(String.raw`\e`, '\\');
  return text.replaceAll(/\s+/g, ' ');
}

interface HelpOption {
  readonly flags: string;
  readonly summary: string;
}

/** The options of a help text, their wrapped lines joined. */
function helpOptions(help: string): HelpOption[] {
  const [, lines = ''] = /\nOptions:\n([^]*?)\n(?:\n|$)/.exec(help) ?? [];
  return lines
    .split(/\n(?= {2}-)/)
    .filter((option) => option.trim() !== '')
    .map((option) => {
      const [flags = '', ...rest] = option.trim().split(/ {2,}|\n/);
      return { flags, summary: rest.join(' ').replaceAll(/\s+/g, ' ').trim() };
    });
}

for (const command of COMMANDS) {
  test(`the page of ${command.name} says what its help says`, async (t) => {
    const page = plain(`man/man1/blockfuse-${command.name}.1`);
    const { stdout } = await blockfuse([command.name, '--help']);
    const options = helpOptions(stdout);
    t.is(options.length, Object.keys(command.options).length + (command.mountOptions === true ? 2 : 1));
    for (const { flags, summary } of options) {
      const shown = `${flags.replaceAll(/[<>]/g, '')} ${summary}.`;
      t.true(page.includes(shown), `the page lacks: ${shown}`);
    }
    const text = stdout.replaceAll(/\s+/g, ' ');
    for (const words of [command.summary, ...command.description]) {
      t.true(page.includes(words), words);
      t.true(text.includes(words), words);
    }
    for (const { name, summary } of command.arguments) t.true(page.includes(`${name} ${summary}.`), name);
    for (const { command: line } of command.examples) t.true(page.includes(line), line);
    // And nothing that help does not have.
    const section = FILES.get(`man/man1/blockfuse-${command.name}.1`)
      ?.split('.SH OPTIONS')[1]
      ?.split('.SH ')[0];
    t.is(section?.match(/^\.TP$/gm)?.length, options.length);
  });
}

test('the page of the program names every command, the help too', async (t) => {
  const page = plain('man/man1/blockfuse.1');
  const { stdout } = await blockfuse(['--help']);
  for (const { flags, summary } of helpOptions(stdout)) t.true(page.includes(`${flags} ${summary}.`), flags);
  for (const { name, summary } of COMMANDS) {
    t.true(page.includes(`blockfuse-${name}(1) ${summary}.`), name);
    t.regex(stdout, new RegExp(`^  ${name} `, 'm'));
  }
});

test('the page of the drivers has every driver and option', (t) => {
  const page = plain('man/man7/blockfuse-drivers.7');
  for (const driver of DRIVERS) {
    t.true(page.includes(`"${driver.name}" ${driver.summary}.`), driver.name);
    for (const [name, schema] of Object.entries({ ...driver.options, ...driver.createOptions })) {
      const at = page.indexOf(`${describeSchema(schema)}.`);
      t.true(at > 0 && page.slice(at - 120, at).includes(`${name}=`), `${driver.name}: ${name}`);
    }
  }
});

test('the pages render without a warning', async (t) => {
  if (!canRun(t, 'mandoc')) return;
  const folder = await tempDir(t);
  for (const [path, text] of PAGES) {
    const file = join(folder, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
    const { stdout, stderr } = await attempt('mandoc', ['-T', 'lint', '-W', 'warning', file]);
    t.is(stdout + stderr, '', path);
  }
  const { stdout } = await run('mandoc', ['-T', 'utf8', join(folder, 'man/man1/blockfuse-mount.1')]);
  t.regex(stdout, /^BLOCKFUSE-MOUNT\(1\)/);
});

test('man renders the pages without a warning', async (t) => {
  if (!canRun(t, 'man', 'groff')) return;
  const folder = await tempDir(t);
  for (const [path, text] of PAGES) {
    const file = join(folder, path.replaceAll('/', '-'));
    await writeFile(file, text);
    const env = { ...process.env, MANWIDTH: '80', LC_ALL: 'C.UTF-8' };
    const { stdout, stderr } = await run('man', ['--warnings=mac', '-l', '-Tutf8', file], { env });
    t.is(stderr, '', path);
    t.true(stdout.length > 500, path);
  }
});

const BASH = 'bash-completion/completions/blockfuse';
const ZSH = 'zsh/vendor-completions/_blockfuse';
const FISH = 'fish/vendor_completions.d/blockfuse.fish';

/** What bash offers for the last word of a line. */
async function offered(folder: string, line: string): Promise<string[]> {
  const words = line.split(' ').map((word) => `'${word}'`);
  const script = `. ./completion; COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}; _blockfuse; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await run('bash', ['--norc', '-c', script], { cwd: folder });
  return stdout.split('\n').filter((word) => word !== '');
}

test('bash completes commands, options, their values, files and drivers', async (t) => {
  const folder = await tempDir(t);
  await writeFile(join(folder, 'completion'), FILES.get(BASH) ?? '');
  await writeFile(join(folder, 'disk.qcow2'), '');
  await mkdir(join(folder, 'disks'));
  const commands = await offered(folder, 'blockfuse ');
  for (const { name } of COMMANDS) t.true(commands.includes(name), name);
  for (const command of COMMANDS) {
    const options = await offered(folder, `blockfuse ${command.name} -`);
    for (const [name, { short }] of Object.entries(command.options)) {
      t.true(options.includes(`--${name}`), `${command.name} --${name}`);
      if (short !== undefined) t.true(options.includes(`-${short}`), `${command.name} -${short}`);
    }
  }
  t.deepEqual(await offered(folder, 'blockfuse mount --discard '), ['unmap', 'ignore']);
  t.deepEqual(await offered(folder, 'blockfuse mount --discard u'), ['unmap']);
  t.deepEqual((await offered(folder, 'blockfuse mount -r di')).sort(), ['disk.qcow2', 'disks']);
  t.deepEqual(await offered(folder, 'blockfuse mount --discard unmap disk.qcow2 di'), ['disks']);
  t.true((await offered(folder, 'blockfuse info -f qc')).includes('qcow2'));
  t.deepEqual(await offered(folder, 'blockfuse unmount di'), []);
});

test('zsh takes its completions, which have every option', async (t) => {
  const text = FILES.get(ZSH) ?? '';
  for (const command of COMMANDS) {
    const part = text.split(`    ${command.name})\n`)[1]?.split(';;')[0] ?? '';
    for (const name of Object.keys(command.options)) {
      t.true(part.includes(`--${name}[`) || part.includes(`--${name}}`), `${command.name} --${name}`);
    }
  }
  if (!canRun(t, 'zsh')) return;
  const folder = await tempDir(t);
  await writeFile(join(folder, '_blockfuse'), text);
  const script = `autoload -U compinit && compinit -D -u && fpath=(${folder} $fpath) && autoload -U _blockfuse && compdef _blockfuse blockfuse && autoload +X _blockfuse && echo taken`;
  t.is((await run('zsh', ['-f', '-c', script])).stdout, 'taken\n');
});

test('fish offers every command and option', async (t) => {
  if (!canRun(t, 'fish')) return;
  const folder = await tempDir(t);
  await writeFile(join(folder, 'blockfuse.fish'), FILES.get(FISH) ?? '');
  const env = { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder };
  const lines = ['blockfuse ', ...COMMANDS.map(({ name }) => `blockfuse ${name} -`)];
  const script = lines.map((line) => `echo "== ${line}"; complete -C "${line}"`).join('\n');
  const { stdout } = await run('fish', ['-c', `source ${join(folder, 'blockfuse.fish')}\n${script}`], {
    env,
  });
  const parts = stdout.split(/^== /m).slice(1);
  for (const { name } of COMMANDS) t.regex(parts[0] ?? '', new RegExp(`^${name}\t`, 'm'));
  for (const [index, command] of COMMANDS.entries()) {
    for (const name of Object.keys(command.options)) {
      t.regex(parts[index + 1] ?? '', new RegExp(`^--${name}\\b`, 'm'), `${command.name} --${name}`);
    }
  }
});
