import type { WorkerOptions } from 'node:worker_threads';

/** What a thread runs. In the bundle the build puts the code itself here: neither a path nor an asset has to be found. */
export function workerCode(): { code: string | URL; options: WorkerOptions } {
  return { code: new URL('unpack-worker.ts', import.meta.url), options: {} };
}
