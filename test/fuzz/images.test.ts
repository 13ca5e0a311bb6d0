/**
 * Damaged images: each is refused with a clear error, or served. No crash, no hang, no memory on the word of a header.
 * A finding names its seed; BLOCKFUSE_SEED=<seed> runs it alone.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Random, rounds } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { sample } from '../helpers/samples.ts';
import { canRun, skip } from '../helpers/tools.ts';
import { runBatch } from './batch.ts';
import { FORMATS } from './formats.ts';
import { mutate } from './mutate.ts';

const COUNT = rounds(60, 1500);

for (const format of FORMATS) {
  test.serial(`${format.name}: ${COUNT} damaged images are refused or served`, async (t) => {
    t.timeout(600_000);
    if (!DRIVERS.some((driver) => driver.name === format.driver))
      return skip(t, `there is no driver "${format.driver}" yet`);
    if (!canRun(t, ...format.tools)) return undefined;
    const folder = await tempDir(t);
    const sound = await format.make(folder);
    const regions = format.regions(sound);
    await writeFile(join(folder, '0.img'), sound);
    const given = process.env['BLOCKFUSE_SEED'];
    const seeds =
      given === undefined ? Array.from({ length: COUNT }, (_, index) => index + 1) : [Number(given)];
    for (const seed of seeds)
      await writeFile(join(folder, `${seed}.img`), mutate(sound, regions, new Random(seed)));
    const { verdicts, findings } = await runBatch(folder, format.driver, [0, ...seeds]);
    t.deepEqual(
      verdicts.find(({ number }) => number === 0)?.steps.map(({ outcome, message }) => [outcome, message]),
      [
        ['served', ''],
        ['served', ''],
      ],
    );
    t.is(findings.map(({ number, what }) => `seed ${number}: ${what}`).join('\n'), '');
    const refused = verdicts.filter(({ steps }) => steps[0]?.outcome === 'refused').length;
    const slowest = Math.max(...verdicts.map(({ milliseconds }) => milliseconds));
    const peak = Math.max(...verdicts.map((verdict) => verdict.peak));
    t.log(
      `${refused} refused; slowest ${Math.round(slowest)} ms; ${Math.round(peak / 2 ** 20)} MiB resident`,
    );
    return undefined;
  });
}

test.serial('a header that asks for a table of gigabytes is refused', async (t) => {
  const folder = await tempDir(t);
  const bytes = sample(t, 'cdi-invalid-qcow-large-memory.img');
  if (bytes === undefined) return;
  await writeFile(join(folder, '1.img'), bytes);
  const { verdicts, findings } = await runBatch(folder, 'qcow2', [1]);
  t.deepEqual(findings, []);
  t.is(verdicts[0]?.steps[0]?.outcome, 'refused');
});
