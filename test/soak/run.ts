/**
 * npm run test:soak [-- ava arguments]: the random tests with many more rounds, and the packages on clean systems. BLOCKFUSE_SEED=<n> starts them elsewhere.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TESTS = [
  'test/block/**/*.test.ts',
  'test/conformance/**/*.test.ts',
  'test/fault/**/*.test.ts',
  'test/format/**/*.test.ts',
  'test/fuzz/**/*.test.ts',
  'test/interop/**/*.test.ts',
  'test/packaging/packages.test.ts',
];

const given = process.argv.slice(2);
const args = [`${ROOT}node_modules/ava/entrypoints/cli.mjs`, '--serial', '--timeout=30m'];
const child = spawn(process.execPath, [...args, ...(given.length === 0 ? TESTS : given)], {
  cwd: ROOT,
  stdio: 'inherit',
  env: { ...process.env, BLOCKFUSE_SOAK: '1' },
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.on('exit', (code) => {
  process.exitCode = code ?? 1;
});
