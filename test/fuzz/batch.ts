import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { HANG_MS } from '../helpers/until.ts';
import type { Verdict } from './attempt.ts';

const ATTEMPT = fileURLToPath(new URL('attempt.ts', import.meta.url));

/** What is wrong with how a damaged image was handled. */
export interface Finding {
  readonly number: number;
  readonly what: string;
}

export interface BatchResult {
  readonly verdicts: readonly Verdict[];
  readonly findings: readonly Finding[];
}

/** No case may take more time of the processor. */
const LIMIT_MS = 10_000;
const MEMORY = 512 * 1024 * 1024;

/** Lets a child process judge the cases. One that crashes or hangs costs its own case: the rest go to another child. */
export async function runBatch(
  folder: string,
  driver: string,
  cases: readonly number[],
): Promise<BatchResult> {
  const verdicts: Verdict[] = [];
  const findings: Finding[] = [];
  for (
    let left = [...cases];
    left.length > 0;
    left = left.filter((number) => !isDone(number, verdicts, findings))
  ) {
    await runChild({ folder, driver, cases: left, verdicts, findings });
  }
  for (const { number, steps, peak, milliseconds } of verdicts) {
    for (const step of steps) {
      if (step.outcome === 'broken') findings.push({ number, what: `${step.mode}: ${step.message ?? ''}` });
    }
    if (milliseconds > LIMIT_MS)
      findings.push({ number, what: `took ${Math.round(milliseconds)} ms of CPU` });
    if (peak > MEMORY) findings.push({ number, what: `${Math.round(peak / 2 ** 20)} MiB resident` });
  }
  return { verdicts, findings };
}

const isDone = (number: number, verdicts: readonly Verdict[], findings: readonly Finding[]): boolean =>
  verdicts.some((verdict) => verdict.number === number) ||
  findings.some((finding) => finding.number === number);

interface ChildRun {
  readonly folder: string;
  readonly driver: string;
  readonly cases: readonly number[];
  readonly verdicts: Verdict[];
  readonly findings: Finding[];
}

async function runChild({ folder, driver, cases, verdicts, findings }: ChildRun): Promise<void> {
  const child = spawn(process.execPath, [ATTEMPT, folder, driver]);
  const errors: Buffer[] = [];
  child.stderr.on('data', (bytes: Buffer) => errors.push(bytes));
  child.stdin.on('error', () => undefined);
  const ended = new Promise<string>((resolve) => {
    child.once('close', (code, signal) => {
      resolve(signal ?? `exit code ${code}`);
    });
  });
  let at = 0;
  let why = '';
  const next = (): void => {
    if (at < cases.length) child.stdin.write(`${cases[at]}\n`);
    else child.stdin.end();
  };
  const giveUp = (): void => {
    why = `no answer within ${HANG_MS / 1000} s`;
    child.kill('SIGKILL');
  };
  let timer = setTimeout(giveUp, HANG_MS);
  next();
  for await (const line of createInterface({ input: child.stdout })) {
    clearTimeout(timer);
    verdicts.push(JSON.parse(line) as Verdict);
    at += 1;
    timer = setTimeout(giveUp, HANG_MS);
    next();
  }
  clearTimeout(timer);
  const end = await ended;
  const number = cases[at];
  if (number === undefined) return;
  findings.push({
    number,
    what: `${why === '' ? `the process ended (${end})` : why}\n${Buffer.concat(errors).toString()}`,
  });
}
