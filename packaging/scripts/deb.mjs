/**
 * `npm run package:deb`: out/blockfuse_VERSION_ARCHITECTURE.deb, made of the single executable, the manual pages, the
 * completions, the units and the mount helper. It needs dpkg-deb.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { referenceFiles } from '../reference/files.ts';
import { root } from './project.mjs';

const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' };
const { version } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
const architecture = ARCHITECTURES[process.arch];
const folder = `${root}/build/deb-${process.pid}`;
const target = `${root}/out/blockfuse_${version}_${architecture}.deb`;
/** The newest change that is packed stands in the manual. */
const date = statSync(`${root}/out/blockfuse`).mtime.toISOString().slice(0, 10);

function install(path, bytes, mode = 0o644) {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
  chmodSync(file, mode);
}

const packed = (text) => gzipSync(text, { level: 9 });

function installProgram() {
  mkdirSync(`${folder}/usr/bin`, { recursive: true });
  mkdirSync(`${folder}/usr/sbin`, { recursive: true });
  cpSync(`${root}/out/blockfuse`, `${folder}/usr/bin/blockfuse`);
  // The name under which mount(8) looks for it.
  symlinkSync('../bin/blockfuse', `${folder}/usr/sbin/mount.fuse.blockfuse`);
}

function installReference() {
  for (const { path, text } of referenceFiles(date)) {
    if (path.startsWith('man/')) install(`usr/share/${path}.gz`, packed(text));
    else install(`usr/share/${path}`, text);
  }
}

function installUnits() {
  for (const name of readdirSync(`${root}/packaging/systemd`)) {
    const bytes = readFileSync(`${root}/packaging/systemd/${name}`);
    if (name.endsWith('.yaml')) install(`etc/blockfuse/${name}`, bytes);
    else for (const manager of ['system', 'user']) install(`usr/lib/systemd/${manager}/${name}`, bytes);
  }
}

function installDocuments() {
  const doc = 'usr/share/doc/blockfuse';
  const text = (file) => readFileSync(`${root}/${file}`, 'utf8');
  install(
    `${doc}/copyright`,
    `blockfuse\n\n${text('LICENSE')}\nInside the program:\n\n${text('out/LICENSES.txt')}`,
  );
  install(`${doc}/README.md.gz`, packed(text('README.md')));
}

/** Every regular file, relative to the package's root. */
function files() {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => !path.startsWith('DEBIAN/'))
    .sort();
}

function installControl() {
  const all = files();
  const size = Math.ceil(all.reduce((sum, path) => sum + statSync(join(folder, path)).size, 0) / 1024);
  const sums = all.map((path) => {
    const sum = createHash('md5')
      .update(readFileSync(join(folder, path)))
      .digest('hex');
    return `${sum}  ${path}\n`;
  });
  const values = { VERSION: version, ARCHITECTURE: architecture, SIZE: String(size) };
  const control = readFileSync(`${root}/packaging/debian/control`, 'utf8');
  install(
    'DEBIAN/control',
    control.replaceAll(/@(\w+)@/g, (_, name) => values[name]),
  );
  install('DEBIAN/md5sums', sums.join(''));
  install(
    'DEBIAN/conffiles',
    all
      .filter((path) => path.startsWith('etc/'))
      .map((path) => `/${path}\n`)
      .join(''),
  );
  for (const name of ['postinst', 'postrm'])
    install(`DEBIAN/${name}`, readFileSync(`${root}/packaging/debian/${name}`), 0o755);
}

try {
  if (architecture === undefined) throw new Error(`There is no Debian package for ${process.arch}`);
  process.umask(0o022);
  for (const step of [installProgram, installReference, installUnits, installDocuments, installControl])
    step();
  // Fast rather than as small as can be: most of it is Node.
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '-z1', '--build', folder, target], {
    stdio: 'inherit',
  });
  console.log(`${target}: ${Math.round(statSync(target).size / 1e6)} MB`);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
