/**
 * Damaged images: each is refused with a clear error, or served. No crash, no hang, no memory on the word of a header.
 * A finding names its seed; BLOCKFUSE_SEED=<seed> runs it alone.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Random, rounds } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { sample } from '../helpers/samples.ts';
import { canRun, skip } from '../helpers/tools.ts';
import type { Verdict } from './attempt.ts';
import type { BatchResult, Finding } from './batch.ts';
import { runBatch } from './batch.ts';
import type { FuzzFormat } from './formats.ts';
import { FORMATS } from './formats.ts';
import { mutate } from './mutate.ts';

/** Images that lie in the folder at once. */
const BATCH = 50;

for (const format of FORMATS) {
  const count = format.driver === 'qcow2' ? rounds(40, 1500) : rounds(20, 600);
  test.serial(`${format.name}: ${count} damaged images are refused or served`, async (t) => {
    t.timeout(900_000);
    if (!DRIVERS.some((driver) => driver.name === format.driver))
      return skip(t, `there is no driver "${format.driver}" yet`);
    if (!canRun(t, ...format.tools)) return undefined;
    const folder = await tempDir(t);
    const sound = await format.make(folder, t);
    if (sound === undefined) return undefined;
    const given = process.env['BLOCKFUSE_SEED'];
    const seeds =
      given === undefined ? Array.from({ length: count }, (_, index) => index + 1) : [Number(given)];
    const verdicts: Verdict[] = [];
    const findings: Finding[] = [];
    for (let at = 0; at < seeds.length; at += BATCH) {
      const batch = await judgeBatch(folder, format, sound, seeds.slice(at, at + BATCH));
      verdicts.push(...batch.verdicts);
      findings.push(...batch.findings);
    }
    t.is(findings.map(({ number, what }) => `seed ${number}: ${what}`).join('\n'), '');
    t.log(summary(verdicts));
    return undefined;
  });
}

/** The damaged images of these seeds; the sound one (number 0) with them, which must be served. */
async function judgeBatch(
  folder: string,
  format: FuzzFormat,
  sound: Buffer,
  seeds: readonly number[],
): Promise<BatchResult> {
  const regions = format.regions(sound);
  const path = (number: number): string => join(folder, `${number}.img`);
  await writeFile(path(0), sound);
  for (const seed of seeds) await writeFile(path(seed), mutate(sound, regions, new Random(seed)));
  const { verdicts, findings } = await runBatch(folder, format.driver, [0, ...seeds]);
  for (const number of [0, ...seeds]) await rm(path(number));
  const reading = verdicts.find(({ number }) => number === 0)?.steps[0];
  if (reading?.outcome === 'served' && reading.message === '') return { verdicts, findings };
  return { verdicts, findings: [...findings, { number: 0, what: `the sound image: ${reading?.message}` }] };
}

function summary(verdicts: readonly Verdict[]): string {
  const refused = verdicts.filter(({ steps }) => steps[0]?.outcome === 'refused').length;
  const slowest = Math.max(...verdicts.map(({ milliseconds }) => milliseconds));
  const peak = Math.max(...verdicts.map((verdict) => verdict.peak));
  return `${refused} refused; slowest ${Math.round(slowest)} ms; ${Math.round(peak / 2 ** 20)} MiB resident`;
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
