/** A terminal that is drawn over and over, and left as it was found whatever comes. */
import type { Line } from './table.ts';

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const STYLES: Readonly<Record<Line['kind'], string>> = {
  heading: '\x1b[7m',
  group: '\x1b[1m',
  busy: '',
  idle: '\x1b[2m',
  problem: '\x1b[31;1m',
  note: '\x1b[2m',
};
const PLAIN = '\x1b[0m';
const CTRL_C = '\x03';
const CTRL_Z = '\x1a';

export class Screen {
  private readonly isColoured = (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
  private readonly handlers: { ended: () => void; changed: () => void };
  private isShown = false;

  /** @param handlers `ended`: somebody wants it to end; `changed`: it has to be drawn again */
  constructor(handlers: { ended: () => void; changed: () => void }) {
    this.handlers = handlers;
  }

  open(): void {
    const { stdin, stdout } = process;
    process.on('exit', this.leave);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, this.handlers.ended);
    process.on('SIGCONT', this.enter);
    stdout.on('resize', this.handlers.changed);
    // The terminal is gone.
    stdout.on('error', this.handlers.ended);
    if (stdin.isTTY) stdin.on('data', this.typed);
    this.enter();
  }

  close(): void {
    this.leave();
    process.off('exit', this.leave);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, this.handlers.ended);
    process.off('SIGCONT', this.enter);
    process.stdout.off('resize', this.handlers.changed);
    process.stdin.off('data', this.typed).pause();
  }

  get width(): number {
    return process.stdout.columns;
  }

  /** What is more than the terminal has room for is counted instead. */
  draw(lines: readonly Line[]): void {
    if (!this.isShown) return;
    const rows = process.stdout.rows;
    const shown = lines.length <= rows ? lines : lines.slice(0, rows - 1);
    const texts = shown.map((line) => this.styled(line));
    if (shown.length < lines.length)
      texts.push(`... ${lines.length - shown.length} more lines than this terminal has`.slice(0, this.width));
    process.stdout.write(`${HOME}${texts.map((text) => text + CLEAR_LINE).join('\r\n')}${CLEAR_BELOW}`);
  }

  private styled({ text, kind }: Line): string {
    const style = this.isColoured ? STYLES[kind] : '';
    const padded = kind === 'heading' && style !== '' ? text.padEnd(this.width) : text;
    return style === '' ? padded : `${style}${padded}${PLAIN}`;
  }

  private readonly enter = (): void => {
    if (this.isShown) return;
    this.isShown = true;
    if (process.stdin.isTTY) process.stdin.setRawMode(true).resume();
    process.stdout.write(ENTER);
    this.handlers.changed();
  };

  private readonly leave = (): void => {
    if (!this.isShown) return;
    this.isShown = false;
    if (process.stdin.isTTY) process.stdin.setRawMode(false);
    process.stdout.write(LEAVE);
  };

  private readonly typed = (bytes: Buffer): void => {
    const text = bytes.toString('latin1');
    if (/[qQ]/.test(text) || text.includes(CTRL_C) || text === '\x1b') this.handlers.ended();
    else if (text.includes(CTRL_Z)) {
      this.leave();
      process.kill(process.pid, 'SIGSTOP');
    } else this.handlers.changed();
  };
}
