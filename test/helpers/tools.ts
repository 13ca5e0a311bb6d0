import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** Programs that tests use as judge or load, and the Debian package that has each. */
const PACKAGES = JSON.parse(
  readFileSync(new URL('../../packaging/test-tools.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, string>>;

const FOLDERS = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Full path of a program, also of one in /sbin; undefined without it. */
export function findTool(name: string): string | undefined {
  return FOLDERS.filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

/** Full path of a program that the test has asked `canRun` for. */
export function tool(name: string): string {
  const path = findTool(name);
  if (path === undefined)
    throw new Error(`Cannot run "${name}": it is not installed (Debian: ${packageOf(name)})`);
  return path;
}

/** Whether every one of the programs is there. If not the test is skipped loudly: return from it at once. */
export function canRun(t: ExecutionContext, ...names: string[]): boolean {
  const missing = names.filter((name) => findTool(name) === undefined);
  if (missing.length === 0) return true;
  skip(t, `${missing.join(', ')} not installed (Debian: ${missing.map(packageOf).join(' ')})`);
  return false;
}

/** Whether the test runs as root. If not it is skipped loudly. */
export function isRoot(t: ExecutionContext): boolean {
  if (process.getuid?.() === 0) return true;
  skip(t, 'needs root');
  return false;
}

/** Passes the test, saying why it showed nothing. The first words are what the CI script counts. */
export function skip(t: ExecutionContext, why: string): void {
  t.log(`skipped: ${why}`);
  t.pass();
}

function packageOf(name: string): string {
  return PACKAGES[name] ?? name;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
