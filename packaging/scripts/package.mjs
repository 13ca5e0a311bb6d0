/**
 * `npm run package`: out/blockfuse, one file that needs no Node, no node_modules and no libfuse. The program is bundled as
 * CommonJS and put into the project's own Node by pkg (whose command line would download a Node: it takes no other);
 * native libraries are assets of it.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS } from './bundle-options.mjs';
import { licensesOf, nodeLicense } from './licenses.mjs';
import { root } from './project.mjs';
import { threadCode } from './thread-code.mjs';

const folder = `${root}/build/executable-${process.pid}`;
const FUSE_NATIVE = `${root}/node_modules/fuse-native/prebuilds/linux-x64`;
/** fuse-native is an optional dependency: without it the executable has the one transport. */
const hasFuseNative = existsSync(`${FUSE_NATIVE}/libfuse.so`);
const ASSETS = {
  'koffi.node': `${root}/node_modules/@koromix/koffi-linux-x64/linux_x64/koffi.node`,
  ...(hasFuseNative && {
    'fuse-native.node': `${FUSE_NATIVE}/node.napi.node`,
    'libfuse.so': `${FUSE_NATIVE}/libfuse.so`,
  }),
};

/** Before anything uses libuv's thread pool: its size is read then. */
const THREADS = `process.env.UV_THREADPOOL_SIZE ??= '16';`;
const IMPORT_META_URL = `const __importMetaUrl = require('node:url').pathToFileURL(__filename).href;`;

/** What looks for a native library beside its own files is replaced by what takes it from the executable. */
const REPLACED = [
  { what: /\/static\.c?js$/, from: '/node_modules/koffi/', by: 'koffi-native.ts' },
  { what: /^node-gyp-build$/, from: '/node_modules/fuse-native/', by: 'fuse-native-binding.cjs' },
  { what: /\/libfuse-file\.ts$/, from: '/src/sys/', by: 'libfuse-file.ts' },
];

const LIBFUSE = `${'='.repeat(80)}
libfuse 2.9 (its library, loaded by fuse-native): LGPL-2.1

`;

const embeddedLibraries = {
  name: 'embedded libraries',
  setup({ onResolve }) {
    for (const { what, from, by } of REPLACED) {
      onResolve({ filter: what }, ({ importer }) =>
        importer.includes(from) ? { path: `${root}/packaging/executable/${by}` } : undefined,
      );
    }
  },
};

/** Returns the licences of what is inside. */
async function bundle() {
  const { metafile } = await build({
    ...BUNDLE_OPTIONS,
    entryPoints: ['src/main.ts'],
    outfile: `${folder}/blockfuse.cjs`,
    format: 'cjs',
    target: 'node24',
    minify: true,
    keepNames: true,
    define: { 'import.meta.url': '__importMetaUrl' },
    banner: { js: `${THREADS}\n${IMPORT_META_URL}` },
    external: hasFuseNative ? [] : ['fuse-native'],
    plugins: [embeddedLibraries, threadCode],
    metafile: true,
  });
  const inputs = [...Object.keys(metafile.inputs), ...Object.values(ASSETS)];
  return `${licensesOf(inputs)}${hasFuseNative ? LIBFUSE : ''}${nodeLicense()}`;
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
    seaConfig: { assets: ASSETS, execArgvExtension: 'none', useCodeCache: true },
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
  const licenses = await bundle();
  const program = await embed(smallerNode());
  tryOut(program);
  writeFileSync(`${root}/out/LICENSES.txt`, licenses);
  renameSync(program, `${root}/out/blockfuse`);
  console.log(`out/blockfuse: ${Math.round(statSync(`${root}/out/blockfuse`).size / 1e6)} MB`);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
