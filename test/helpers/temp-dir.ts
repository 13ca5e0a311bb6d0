import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A folder of the test's own, gone when the test ends. Make it first: teardown runs in reverse order. */
export async function tempDir(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'blockfuse-test-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}
