/**
 * `npm run new-driver -- NAME [format|filter]`: a driver that compiles and passes its tests, to be changed into what it is
 * to be, and its line in the list of drivers. BLOCKFUSE_ROOT names another checkout than this one.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { root as here } from './project.mjs';

const KINDS = ['format', 'filter'];
const root = process.env.BLOCKFUSE_ROOT ?? here;

function main([name = '', kind = 'format']) {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name))
    throw new Error('Wanted is a name: small letters, digits, "-"');
  if (!KINDS.includes(kind))
    throw new Error(`Kind "${kind}" has no skeleton, must be one of ${KINDS.join(', ')}`);
  const camel = name.replaceAll(/-(.)/g, (_, letter) => letter.toUpperCase());
  const words = {
    NAME: name,
    CAMEL: camel,
    PASCAL: camel.charAt(0).toUpperCase() + camel.slice(1),
    MAGIC: camel.slice(0, 7).padEnd(8, '-'),
  };
  const driver = `drivers/${kind}/${name}.ts`;
  const test = `test/${kind}/${name}.test.ts`;
  for (const path of [driver, `drivers/${kind}/${name}`, test])
    if (existsSync(`${root}/${path}`)) throw new Error(`There is a ${path} already`);
  const index = withDriver(readFileSync(`${root}/drivers/index.ts`, 'utf8'), { kind, name, camel });
  write(driver, fill(`${kind}.ts.txt`, words));
  write(test, fill(`${kind}-test.ts.txt`, words));
  write('drivers/index.ts', index);
  // How lines break depends on the name.
  const made = [driver, test, 'drivers/index.ts'];
  execFileSync(`${here}/node_modules/.bin/oxfmt`, made, { cwd: root, stdio: 'ignore' });
  console.log(`Made ${driver} and ${test}, and listed it in drivers/index.ts.

Test it:      npm test -- ${test}
See it:       npm run blockfuse -- formats ${name}
How to go on: packaging/docs/writing-a-driver.md`);
}

function fill(template, words) {
  const text = readFileSync(`${here}/packaging/skeleton/${template}`, 'utf8');
  return text.replaceAll(/@([A-Z]+)@/g, (_, word) => words[word]);
}

/** Formats come before those that are there: the first of several that know an image is taken. */
function withDriver(index, { kind, name, camel }) {
  const line = `import { ${camel}Driver } from './${kind}/${name}.ts';\n`;
  const firstImport = index.indexOf('import {', index.indexOf('import type'));
  const list = /export const DRIVERS[^[]*\[\]?[^[]*\[\n/.exec(index);
  if (firstImport < 0 || list === null) throw new Error('drivers/index.ts is not as expected');
  const end = list.index + list[0].length;
  return `${index.slice(0, firstImport)}${line}${index.slice(firstImport, end)}  ${camel}Driver,\n${index.slice(end)}`;
}

function write(path, text) {
  mkdirSync(dirname(`${root}/${path}`), { recursive: true });
  writeFileSync(`${root}/${path}`, text);
}

try {
  main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
