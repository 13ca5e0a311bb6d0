/**
 * `npm run package`: out/blockfuse, one file that needs no Node, no node_modules and no libfuse. The program is bundled as
 * CommonJS and put into the project's own Node by pkg (whose command line would download a Node: it takes no other);
 * native libraries are assets of it.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS } from './bundle-options.mjs';
import { root } from './project.mjs';

const folder = `${root}/build/executable-${process.pid}`;
const KOFFI = `${root}/node_modules/@koromix/koffi-linux-x64/linux_x64/koffi.node`;

/** Before anything uses libuv's thread pool: its size is read then. */
const THREADS = `process.env.UV_THREADPOOL_SIZE ??= '16';`;
const IMPORT_META_URL = `const __importMetaUrl = require('node:url').pathToFileURL(__filename).href;`;

const embeddedKoffi = {
  name: 'embedded koffi',
  setup({ onResolve }) {
    onResolve({ filter: /\/static\.c?js$/ }, ({ importer }) =>
      importer.includes('/node_modules/koffi/')
        ? { path: `${root}/packaging/executable/koffi-native.ts` }
        : undefined,
    );
  },
};

async function bundle() {
  await build({
    ...BUNDLE_OPTIONS,
    entryPoints: ['src/main.ts'],
    outfile: `${folder}/blockfuse.cjs`,
    format: 'cjs',
    target: 'node24',
    minify: true,
    keepNames: true,
    define: { 'import.meta.url': '__importMetaUrl' },
    banner: { js: `${THREADS}\n${IMPORT_META_URL}` },
    plugins: [embeddedKoffi],
  });
}

/** A copy of this Node, without the symbols that only a debugger reads when there is a program to take them out. */
function smallerNode() {
  const node = `${folder}/node`;
  copyFileSync(process.execPath, node);
  chmodSync(node, 0o755);
  const { status } = spawnSync('strip', [node], { stdio: 'ignore' });
  if (status !== 0) copyFileSync(process.execPath, node);
  return node;
}

async function embed(nodePath) {
  const { default: sea } = createRequire(import.meta.url)('@yao-pkg/pkg/lib-es5/sea');
  const output = `${folder}/blockfuse`;
  await sea(`${folder}/blockfuse.cjs`, {
    nodePath,
    targets: [{ nodeRange: `node${process.versions.node}`, platform: 'linux', arch: process.arch, output }],
    seaConfig: { assets: { 'koffi.node': KOFFI }, execArgvExtension: 'none' },
  });
  return output;
}

/** pkg has said "done" over a Node without the program in it. */
function tryOut(program) {
  const { stdout, stderr, status } = spawnSync(program, ['formats', '--json'], { env: {}, encoding: 'utf8' });
  if (status === 0 && stdout.includes('"qcow2"')) return;
  throw new Error(`The executable does not work:\n${stdout}${stderr}`);
}

try {
  mkdirSync(folder, { recursive: true });
  mkdirSync(`${root}/out`, { recursive: true });
  await bundle();
  const program = await embed(smallerNode());
  tryOut(program);
  renameSync(program, `${root}/out/blockfuse`);
  console.log(`out/blockfuse: ${Math.round(statSync(`${root}/out/blockfuse`).size / 1e6)} MB`);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
