/**
 * What .ci/run runs: type check, lint, format check, then the tests. All of them run even when one fails.
 * The last line of the output is `N passed, N failed, N skipped`, counted from ava's own TAP lines.
 */
import { spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { root } from './project.mjs';

const CHECKS = [
  ['tsc', '--noEmit'],
  ['oxlint', '--type-aware', '--quiet', 'src', 'drivers', 'mount', 'test', 'packaging'],
  ['oxfmt', '--check', 'src', 'drivers', 'mount', 'test', 'packaging'],
];

/** Files that run at once: now and then each of them waits for a disk, or until something has not happened. */
const CONCURRENCY = availableParallelism() + 1;
/** Every file and many a program that it starts load the same sources: they are compiled once. */
const ENV = { ...process.env, NODE_COMPILE_CACHE: `${root}/node_modules/.cache/compiled` };

function check([tool, ...args]) {
  console.log(`$ ${tool} ${args.join(' ')}`);
  const { status } = spawnSync(`${root}/node_modules/.bin/${tool}`, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) console.log(`${tool}: failed`);
  return status === 0;
}

/** A test that lacks a tool passes and logs `skipped: <tool>` below its own line: it is counted as skipped. */
function count(counts, line) {
  const [, not, directive] = /^(not )?ok \d+(?:.*# (SKIP|TODO)\b)?/.exec(line) ?? [];
  if (/^(not )?ok \d/.test(line)) {
    counts.latest = directive ? 'skipped' : not ? 'failed' : 'passed';
    counts[counts.latest] += 1;
  } else if (counts.latest === 'passed' && /^#\s+skipped: /.test(line)) {
    counts.passed -= 1;
    counts.skipped += 1;
    counts.latest = 'skipped';
  } else if (line.startsWith('# fail ')) {
    // Tests that never ran because their file died have no line of their own, but ava counts them.
    counts.failed = Math.max(counts.failed, Number(line.slice('# fail '.length)));
  }
}

async function test(args) {
  console.log('$ ava --tap');
  const counts = { passed: 0, failed: 0, skipped: 0, latest: '' };
  const argv = [
    `${root}/node_modules/ava/entrypoints/cli.js`,
    '--tap',
    `--concurrency=${CONCURRENCY}`,
    ...args,
  ];
  const ava = spawn(process.execPath, argv, { cwd: root, env: ENV, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => ava.on('close', (code) => resolve(code ?? 1)));
  for await (const line of createInterface({ input: ava.stdout })) {
    console.log(line);
    count(counts, line);
  }
  return { counts, code: await ended };
}

const checks = CHECKS.map(check);
const { counts, code } = await test(process.argv.slice(2));
if (checks.includes(false)) console.log('A check before the tests failed, see above');
process.exitCode = code === 0 && !checks.includes(false) ? 0 : 1;
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
