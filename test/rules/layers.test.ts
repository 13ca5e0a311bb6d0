/** Who may know whom (ARCHITECTURE.md): read from the imports of every file. */
import test from 'ava';
import { sources } from './sources.ts';
import type { Source } from './sources.ts';

interface Layer {
  readonly folder: string;
  /** Folders (and single files) of the project that it may import, beside itself. */
  readonly may: readonly string[];
  /** Packages and Node modules that it may import; everything but the system when left out. */
  readonly packages?: readonly string[];
}

const PURE = ['debug', 'valibot', 'node:path', 'node:events'];
/** What drivers need beside: all of it computes, none of it reaches the system. */
const COMPUTING = [...PURE, 'node:zlib', 'node:crypto', 'node:util', 'fast-xml-parser'];
const BLOCK = ['src/block/', 'src/util/'];

const LAYERS: readonly Layer[] = [
  { folder: 'src/util/', may: [], packages: ['node:zlib', 'node:crypto'] },
  { folder: 'src/sys/', may: ['src/util/', 'src/block/errors.ts'] },
  { folder: 'src/block/', may: ['src/util/'], packages: PURE },
  { folder: 'src/jobs/', may: BLOCK, packages: PURE },
  { folder: 'src/control/', may: [...BLOCK, 'src/jobs/'], packages: PURE },
  { folder: 'src/crypto/', may: BLOCK, packages: ['node:crypto', 'node:util'] },
  {
    folder: 'drivers/format/',
    may: [...BLOCK, 'src/crypto/'],
    packages: COMPUTING,
  },
  {
    folder: 'drivers/filter/',
    may: [...BLOCK, 'src/crypto/'],
    packages: COMPUTING,
  },
  { folder: 'drivers/protocol/', may: [...BLOCK, 'src/crypto/', 'src/sys/'] },
  { folder: 'mount/', may: [...BLOCK, 'src/sys/'] },
];

const isInside = (path: string, places: readonly string[]): boolean =>
  places.some((place) => path.startsWith(place));
const isOurs = (name: string): boolean => /^(src|drivers|mount|test|packaging)\//.test(name);

function strangers(source: Source, layer: Layer): string[] {
  return source.imports.filter((name) => {
    if (isOurs(name)) return !isInside(name, [layer.folder, ...layer.may]);
    return layer.packages !== undefined && !layer.packages.includes(name);
  });
}

for (const layer of LAYERS) {
  test(`${layer.folder} imports only what it may know`, (t) => {
    const found = sources(layer.folder)
      .map((source) => ({ path: source.path, imports: strangers(source, layer) }))
      .filter(({ imports }) => imports.length > 0);
    t.deepEqual(found, []);
  });
}

test('only src/sys imports koffi or node:fs', (t) => {
  const system = /^(koffi|(node:)?fs(\/promises)?)$/;
  const found = sources('src', 'drivers', 'mount').filter(
    ({ path, imports }) => !path.startsWith('src/sys/') && imports.some((name) => system.test(name)),
  );
  t.deepEqual(
    found.map(({ path }) => path),
    [],
  );
});

test('a driver never imports another driver', (t) => {
  const found = sources('drivers').flatMap(({ path, imports }) => {
    if (path === 'drivers/index.ts') return [];
    const others = imports.filter(
      (name) => name.startsWith('drivers/') && isDriverFile(name) && !sameFolder(name, path),
    );
    return others.map((name) => `${path} -> ${name}`);
  });
  t.deepEqual(found, []);
});

/** `drivers/kind/name.ts` and what lies in `drivers/kind/name/`; a folder without a file of its name is shared. */
function isDriverFile(name: string): boolean {
  const [, , driver = ''] = name.split('/');
  return DRIVER_NAMES.has(driver.replace(/\.ts$/, ''));
}

function sameFolder(name: string, path: string): boolean {
  const top = (file: string): string => file.split('/').slice(0, 3).join('/').replace(/\.ts$/, '');
  return top(name) === top(path);
}

const DRIVER_NAMES = new Set(
  sources('drivers')
    .filter(({ text }) => text.includes('= defineDriver('))
    .map(({ path }) => (path.split('/')[2] ?? '').replace(/\.ts$/, '')),
);

test('nobody imports the composition root', (t) => {
  const found = sources('src', 'drivers', 'mount', 'test').filter(({ imports }) =>
    imports.includes('src/main.ts'),
  );
  t.deepEqual(
    found.map(({ path }) => path),
    [],
  );
});

test('no top-level await in what is bundled', (t) => {
  const found = sources('src', 'drivers', 'mount').filter(({ text }) => /^(const .*= )?await /m.test(text));
  t.deepEqual(
    found.map(({ path }) => path),
    [],
  );
});
