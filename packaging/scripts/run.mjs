/**
 * Entry of every npm script: brings a fresh clone to where the task can run, then runs it.
 * It is itself run by whatever Node the machine has (20 or later), so it uses nothing newer and nothing installed.
 */
import { spawn } from 'node:child_process';
import { ensureBuilt } from './ensure-built.mjs';
import { ensureExecutable } from './ensure-executable.mjs';
import { ensureModules } from './ensure-modules.mjs';
import { ensurePackages, TEST_TOOLS, warnWithoutFusermount } from './ensure-packages.mjs';
import { root } from './project.mjs';

const ava = 'node_modules/ava/entrypoints/cli.js';

/** Each: what it needs beside node_modules, and what Node 24 then runs; with `cwd` where the user stood. */
const TASKS = {
  mount: { built: true, fuse: true, cwd: true, command: (args) => mountCommand(args) },
  unmount: { built: true, cwd: true, command: (args) => ['dist/blockfuse.js', 'unmount', ...args] },
  blockfuse: { built: true, cwd: true, command: (args) => ['dist/blockfuse.js', ...args] },
  test: { built: true, tools: true, command: (args) => [ava, ...args] },
  'test:soak': {
    built: true,
    tools: true,
    env: { BLOCKFUSE_SOAK: '1' },
    command: (args) => [ava, '--timeout=30m', ...args],
  },
  bench: { built: true, tools: true, command: (args) => ['test/bench/run.ts', ...args] },
  ci: { built: true, tools: true, command: (args) => ['packaging/scripts/ci.mjs', ...args] },
  package: { command: () => ['packaging/scripts/package.mjs'] },
  'package:deb': { executable: true, command: () => ['packaging/scripts/deb.mjs'] },
  docs: { built: true, command: () => ['packaging/reference/write.ts'] },
  'new-driver': { command: (args) => ['packaging/scripts/new-driver.mjs', ...args] },
  build: { command: () => ['packaging/scripts/build.mjs'] },
};

function mountCommand(args) {
  return args.length === 0 ? ['packaging/scripts/demo.mjs'] : ['dist/blockfuse.js', 'mount', ...args];
}

function main([name, ...args]) {
  const task = TASKS[name ?? ''];
  if (!task) fail(`Unknown task "${name}", must be one of ${Object.keys(TASKS).join(', ')}`);
  if (process.platform !== 'linux') fail('blockfuse needs Linux: it speaks to /dev/fuse');
  const node = ensureModules();
  if (task.tools) ensurePackages(TEST_TOOLS);
  if (task.fuse) warnWithoutFusermount();
  if (task.built) ensureBuilt(node);
  if (task.executable) ensureExecutable(node);
  const [script, ...rest] = task.command(args);
  const cwd = task.cwd ? (process.env.INIT_CWD ?? process.cwd()) : root;
  run(node, [`${root}/${script}`, ...rest], { cwd, env: task.env });
}

/** The nearest thing to exec: same terminal, signals passed on, same exit code. */
function run(node, argv, { cwd, env }) {
  const path = `${root}/node_modules/.bin:${process.env.PATH}`;
  const child = spawn(node, argv, { cwd, stdio: 'inherit', env: { ...process.env, ...env, PATH: path } });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => fail(error.message));
  child.on('exit', (code, signal) => {
    process.exitCode = signal ? 1 : (code ?? 1);
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

try {
  main(process.argv.slice(2));
} catch (error) {
  fail(error instanceof Error ? error.message : String(error));
}
