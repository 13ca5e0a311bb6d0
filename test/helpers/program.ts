import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Outcome, RunOptions } from './run.ts';
import { attempt, run } from './run.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LOCK = join(ROOT, '.building.tmp');
let built: string | undefined;

/**
 * The built program, built first when a source is newer. BLOCKFUSE_PROGRAM names another one (an installed
 * blockfuse.js, a build that is not to change under a long test).
 */
export function program(): string {
  built ??= process.env['BLOCKFUSE_PROGRAM'] ?? ensureBuilt();
  return built;
}

/** Runs the built command, which must succeed. */
export function blockfuse(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return run(process.execPath, [program(), ...args], options);
}

/** Runs the built command, whatever comes of it. */
export function attemptBlockfuse(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return attempt(process.execPath, [program(), ...args], options);
}

function ensureBuilt(): string {
  const entry = join(ROOT, 'dist/blockfuse.js');
  withBuildLock(() => {
    const newest = Math.max(...['src', 'drivers', 'mount'].map((folder) => newestIn(join(ROOT, folder))));
    if (existsSync(entry) && statSync(entry).mtimeMs > newest) return;
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'packaging/scripts/build.mjs')], {
      cwd: ROOT,
    });
    if (status !== 0) throw new Error(`Cannot build: ${String(stderr)}`);
  });
  return entry;
}

/** Test files run in processes of their own: only one of them builds. A lock left by a crash is broken after a minute. */
function withBuildLock(work: () => void): void {
  const giveUp = Date.now() + 60_000;
  while (!tryLock() && Date.now() < giveUp) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  try {
    work();
  } finally {
    rmSync(LOCK, { recursive: true, force: true });
  }
}

function tryLock(): boolean {
  try {
    mkdirSync(LOCK);
    return true;
  } catch {
    return false;
  }
}

function newestIn(folder: string): number {
  const files = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) =>
    entry.isFile(),
  );
  return Math.max(...files.map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs));
}
