/** What can't be made is refused before a file of that name is touched. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Driver } from '../../src/block/driver.ts';
import { attemptBlockfuse } from '../helpers/program.ts';
import { tempDir } from '../helpers/temp-dir.ts';

/** Format, size, options, and what the message has to say. */
const REFUSED: readonly (readonly [string, string, readonly string[], RegExp])[] = [
  ['parallels', '8M', ['cluster_size=1000'], /cluster_size is 1000, must be a multiple of 512/],
  ['parallels', '100T', [], /size is \d+, must be a multiple of 512 up to/],
  ['qcow', '100T', [], /size is \d+, must be 1 to \d+ bytes/],
  ['qcow', '8M', ['encrypt.format=aes'], /key|secret/],
  ['qed', '8M', ['cluster_size=5000'], /cluster_size is 5000, must be a power of two/],
  ['qed', '8M', ['table_size=3'], /table_size is 3, must be 2, 4, 8 or 16/],
  ['vdi', '8M', ['block_size=5000'], /block_size is 5000, must be a power of two/],
  ['vdi', '8M', ['subformat=differencing'], /parent's uuid is not known/],
  ['vhdx', '8M', ['log_size=5000'], /log_size is 5000, must be a multiple of 1M/],
  ['vhdx', '100T', [], /size is \d+, must be at most \d+/],
  ['vpc', '3T', [], /size is \d+, must be at most \d+/],
  ['vpc', '8M', ['subformat=differencing'], /a differencing image has a parent/],
  ['vmdk', '0', [], /size is 0, must be at least one sector/],
  ['vmdk', '8M', ['hwversion="4'], /hwversion holds a quote/],
];

for (const [format, size, options, reason] of REFUSED) {
  test(`${format}: ${[size, ...options].join(', ')}`, async (t) => {
    const folder = await tempDir(t);
    const image = join(folder, 'kept.img');
    await writeFile(image, 'what was there');
    const given = options.flatMap((option) => ['-o', option]);
    const { code, stderr } = await attemptBlockfuse(['create', '-u', '-f', format, ...given, image, size]);
    t.is(code, 1, stderr);
    t.regex(stderr, reason);
    t.is(await readFile(image, 'utf8'), 'what was there');
    t.deepEqual(await readdir(folder), ['kept.img']);
  });
}

test('every format with options to create with looks at them first', (t) => {
  const hasOptions = ({ createOptions = {} }: Driver): boolean =>
    Object.keys(createOptions).some((name) => name !== 'preallocation');
  const creators = DRIVERS.filter((driver) => driver.create !== undefined && hasOptions(driver));
  const unchecked = creators.filter((driver) => driver.checkCreate === undefined);
  t.deepEqual(
    unchecked.map(({ name }) => name),
    [],
  );
  t.true(creators.length >= 9);
});
