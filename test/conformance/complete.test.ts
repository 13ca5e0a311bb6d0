/** No driver and no family is left out of the suite. */
import { readdir } from 'node:fs/promises';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { FAMILIES } from './images.ts';
import { isWritable } from './subject.ts';

/** Drivers that the suite can't fill, or not by writing, and what looks at them. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'null-co': 'keeps nothing: test/protocol',
  'null-aio': 'keeps nothing: test/protocol',
  vvfat: 'its content is that of a folder: test/protocol',
  'snapshot-access': 'takes discards, no writes: test/filter/fleecing',
  https: 'is http over TLS: test/protocol',
};

const subjects = Object.values(FAMILIES).flat();

test('every driver has a subject', (t) => {
  const covered = new Set(subjects.map(({ driver }) => driver));
  const missing = DRIVERS.map(({ name }) => name).filter(
    (name) => !covered.has(name) && !(name in ELSEWHERE),
  );
  t.deepEqual(missing, []);
});

test('names are unique, and a driver that writes is written by some subject', (t) => {
  const names = subjects.map(({ name }) => name);
  t.is(new Set(names).size, names.length);
  const written = new Set(subjects.filter(isWritable).map(({ driver }) => driver));
  const writing = DRIVERS.filter(({ onlyRead = false }) => !onlyRead).map(({ name }) => name);
  const missing = writing.filter((name) => !written.has(name) && !(name in ELSEWHERE));
  t.deepEqual(missing, []);
});

test('every family has its test file', async (t) => {
  const files = await readdir(import.meta.dirname);
  for (const family of Object.keys(FAMILIES)) t.true(files.includes(`${family}.test.ts`), family);
});
