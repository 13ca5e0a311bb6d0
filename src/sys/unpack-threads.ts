import type { UnpackService } from '../util/unpack-service.ts';

/** The pool of this process, loaded with the first thing to unpack. */
export const unpackThreads: UnpackService = {
  async unpack(packed, job) {
    const { pool } = await import('./process-unpack-pool.ts');
    return pool.unpack(packed, job);
  },

  openXzBlock(setup) {
    const opening = import('./process-unpack-pool.ts').then(({ pool }) => pool.openXzBlock(setup));
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
