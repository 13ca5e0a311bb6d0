/**
 * The code of the threads that unpack, as text inside the bundle: neither a bundle in pieces nor the executable has a
 * file of it. Stands in for src/sys/unpack-worker-code.ts.
 */
import { build } from 'esbuild';
import { root } from './project.mjs';

async function bundled() {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['src/sys/unpack-worker.ts'],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node22.15',
    minify: true,
    write: false,
    logLevel: 'warning',
  });
  return outputFiles[0].text;
}

export const threadCode = {
  name: 'code of threads',
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/sys\/unpack-worker-code\.ts$/ }, async () => {
      const answer = JSON.stringify({ code: await bundled(), options: { eval: true } });
      return { contents: `export const workerCode = () => (${answer});`, loader: 'js' };
    });
  },
};
