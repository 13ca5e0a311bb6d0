/**
 * How far a long command is, on standard error:
 *
 *   auto   a bar, when that is a terminal and the work takes longer than two seconds; it is gone at the end
 *   on     the bar at once, or a line now and then where there is no terminal; a last line tells how long it took
 *   off    nothing
 *
 * SIGUSR1 prints one line in any case, as dd and qemu-img do.
 */
import { formatSize } from '../util/sizes.ts';
import { setStatusLine } from './output.ts';

export type ProgressMode = 'auto' | 'on' | 'off';

const QUIET_MS = 2000;
const BAR_MS = 200;
const LINE_MS = 5000;
const BAR = 24;
/** Columns that the words beside the bar take at most. */
const WORDS = 54;
const DEFAULT_COLUMNS = 80;

let mode: ProgressMode = 'auto';
/** Of what is under way. */
let report: (() => void) | undefined;

/** For the whole command, before its work begins. From then on SIGUSR1 does not start Node's debugger. */
export function prepareProgress(wanted: ProgressMode): void {
  mode = wanted;
  process.on('SIGUSR1', () => {
    report?.();
  });
}

/** Call `update` as often as you like and `end` on every path. One at a time. */
export class Progress {
  private readonly label: string;
  private readonly unit: 'bytes' | 'steps';
  private readonly started = performance.now();
  private readonly isTerminal = process.stderr.isTTY;
  private drawn = performance.now();
  private done = 0;
  private total: number | undefined = undefined;

  /** @param unit what is counted: the rate of steps is not told */
  constructor(label: string, unit: 'bytes' | 'steps' = 'bytes') {
    this.label = label;
    this.unit = unit;
    report = () => {
      this.report();
    };
    if (mode === 'on' && this.isTerminal) this.draw();
  }

  /** @param total undefined: nobody knows */
  update(done: number, total: number | undefined): void {
    this.done = done;
    this.total = total;
    if (mode === 'off' || (mode === 'auto' && !this.isTerminal)) return;
    const now = performance.now();
    if (mode === 'auto' && now - this.started < QUIET_MS) return;
    if (now - this.drawn < (this.isTerminal ? BAR_MS : LINE_MS)) return;
    this.drawn = now;
    if (this.isTerminal) this.draw();
    else this.report();
  }

  end(): void {
    report = undefined;
    setStatusLine(undefined);
    if (mode !== 'on') return;
    const rate = this.unit === 'bytes' ? `${formatSize(this.done)}, ${this.rate()}, ` : '';
    process.stderr.write(`${this.label}: ${rate}${duration(this.seconds)}\n`);
  }

  /** One line: `convert: 45.2 %, 1.2 GiB of 2.7 GiB, 312 MiB/s, 5 s left`. */
  report(): void {
    const { total, done } = this;
    const isBytes = this.unit === 'bytes';
    const words = [
      ...(total === undefined ? [] : [`${(share(done, total) * 100).toFixed(1)} %`]),
      ...(isBytes
        ? [total === undefined ? formatSize(done) : `${formatSize(done)} of ${formatSize(total)}`]
        : []),
      ...(isBytes ? [this.rate()] : []),
      this.left(),
    ];
    setStatusLine(undefined);
    process.stderr.write(`${this.label}: ${words.join(', ')}\n`);
  }

  private draw(): void {
    const { label, total, done } = this;
    const columns = process.stderr.columns || DEFAULT_COLUMNS;
    const width = Math.max(0, Math.min(BAR, columns - WORDS - label.length));
    const part = total === undefined ? 0 : share(done, total);
    const bar =
      width < 4 || total === undefined ? '' : ` [${'#'.repeat(Math.round(part * width)).padEnd(width, '.')}]`;
    const percent = total === undefined ? '' : ` ${`${Math.floor(part * 100)}`.padStart(3)} %`;
    const rate = this.unit === 'bytes' ? `  ${this.rate()}` : '';
    setStatusLine(`${label}${bar}${percent}${rate}  ${this.left()}`.slice(0, columns - 1));
  }

  private get seconds(): number {
    return Math.max(0.001, (performance.now() - this.started) / 1000);
  }

  private rate(): string {
    return `${formatSize(Math.round(this.done / this.seconds))}/s`;
  }

  /** `5 s left`; how long it has taken where the end is not known. */
  private left(): string {
    const { done, total, seconds } = this;
    if (total === undefined || done === 0) return `${duration(seconds)} so far`;
    return `${duration((seconds * Math.max(0, total - done)) / done)} left`;
  }
}

/** Runs `work` with a progress that it feeds. */
export async function withProgress<Result>(
  label: string,
  work: (update: (done: number, total: number) => void) => Promise<Result>,
): Promise<Result> {
  const progress = new Progress(label);
  try {
    return await work((done, total) => {
      progress.update(done, total);
    });
  } finally {
    progress.end();
  }
}

/** Runs `work`, which tells nothing; `look` tells how far it is. */
export async function watchProgress<Result>(
  label: string,
  look: (() => { readonly done: number; readonly total: number }) | undefined,
  work: () => Promise<Result>,
): Promise<Result> {
  const progress = new Progress(label, look === undefined ? 'steps' : 'bytes');
  const timer = setInterval(() => {
    const seen = look?.();
    progress.update(seen?.done ?? 0, seen?.total);
  }, BAR_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    const seen = look?.();
    progress.update(seen?.done ?? 0, seen?.total);
    progress.end();
  }
}

const share = (done: number, total: number): number => (total === 0 ? 1 : Math.min(1, done / total));

function duration(seconds: number): string {
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
