/**
 * Bundles src/main.ts into dist/: one small entry that checks the Node version, and chunks that are loaded when needed
 * (the server never loads the command line's parser). koffi stays outside: it finds its binary beside its own files.
 */
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS } from './bundle-options.mjs';
import { licensesOf } from './licenses.mjs';
import { root } from './project.mjs';
import { threadCode } from './thread-code.mjs';

const require = `import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);`;

// Beside the old one, which goes only when the new one is whole.
const fresh = `${root}/build/dist-${process.pid}`;
const built = await build({
  ...BUNDLE_OPTIONS,
  entryPoints: { blockfuse: 'src/main.ts' },
  outdir: fresh,
  chunkNames: 'chunks/[name]-[hash]',
  splitting: true,
  format: 'esm',
  target: 'node22.15',
  external: ['koffi', 'fuse-native'],
  banner: { js: `#!/usr/bin/env node\n${require}` },
  sourcemap: 'linked',
  plugins: [threadCode],
  // Half the bytes to compile at every start; names stay, for stacks of errors.
  minifySyntax: true,
  minifyWhitespace: true,
  metafile: true,
}).catch(() => undefined);
// esbuild has said what is wrong.
if (built === undefined) process.exit(1);
chmodSync(`${fresh}/blockfuse.js`, 0o755);
writeFileSync(`${fresh}/LICENSES.txt`, licensesOf(Object.keys(built.metafile.inputs)));
rmSync(`${root}/dist`, { recursive: true, force: true });
renameSync(fresh, `${root}/dist`);
