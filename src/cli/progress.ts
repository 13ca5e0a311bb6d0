import { formatSize } from '../util/sizes.ts';

const QUIET_MS = 2000;
const EVERY_MS = 200;
const WIDTH = 24;

/**
 * A bar on standard error for work that takes longer than two seconds, when that is a terminal; otherwise nothing.
 * Call `update` as often as you like and `end` on every path.
 */
export class Progress {
  private readonly label: string;
  private readonly started = performance.now();
  private readonly isShown = process.stderr.isTTY;
  private drawn = 0;

  constructor(label: string) {
    this.label = label;
  }

  update(done: number, total: number): void {
    if (!this.isShown) return;
    const now = performance.now();
    if (now - this.started < QUIET_MS || now - this.drawn < EVERY_MS) return;
    this.drawn = now;
    process.stderr.write(`\r${this.line(done, total, (now - this.started) / 1000)}\x1b[K`);
  }

  end(): void {
    if (this.drawn > 0) process.stderr.write('\r\x1b[K');
  }

  private line(done: number, total: number, seconds: number): string {
    const share = total === 0 ? 1 : Math.min(1, done / total);
    const bar = '#'.repeat(Math.round(share * WIDTH)).padEnd(WIDTH, '.');
    const left = done === 0 ? '?' : duration((seconds * (total - done)) / done);
    const percent = `${Math.floor(share * 100)}`.padStart(3);
    return `${this.label} [${bar}] ${percent} %  ${formatSize(done / seconds)}/s  ${left} left`;
  }
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
