import type { UnpackService } from '../util/unpack-service.ts';
import type { UnpackPool } from './unpack-pool.ts';

let pool: UnpackPool | undefined;

async function loadPool(): Promise<UnpackPool> {
  ({ pool } = await import('./process-unpack-pool.ts'));
  return pool;
}

/** The pool of this process, loaded with the first thing to unpack. */
export const unpackThreads: UnpackService = {
  async unpack(packed, job) {
    return (pool ?? (await loadPool())).unpack(packed, job);
  },

  async unpackInto(packed, job, out) {
    await (pool ?? (await loadPool())).unpackInto(packed, job, out);
  },

  async openInflateScan() {
    return (pool ?? (await loadPool())).openInflateScan();
  },

  openXzBlock(setup) {
    const opening = loadPool().then((loaded) => loaded.openXzBlock(setup));
    return {
      async step(input) {
        return (await opening).step(input);
      },
      close() {
        opening.then(
          (block) => {
            block.close();
          },
          () => {},
        );
      },
    };
  },
};
