/** `top`: asks again and again, and shows what happened in between. */
import { setTimeout as delay } from 'node:timers/promises';
import type { StatsReport } from '../../control/stats.ts';
import { formatSize } from '../../util/sizes.ts';
import { print } from '../output.ts';
import { askStats } from '../stats/ask.ts';
import { rowsBetween } from './rows.ts';
import { Screen } from './screen.ts';
import { tableLines } from './table.ts';
import type { Line, RowGroup } from './table.ts';

export interface TopOptions {
  readonly server: string | undefined;
  /** Between two looks. */
  readonly seconds: number;
  /** Tables to print; all there will be when undefined. */
  readonly count: number | undefined;
}

/** Wide enough for any name when nobody's terminal sets the width. */
const PLAIN_WIDTH = 132;

/** On a terminal, until somebody wants it to end. */
export async function watchOnScreen({ server, seconds }: TopOptions): Promise<void> {
  let before: readonly StatsReport[] = [];
  let now = await askStats(server);
  const end = new AbortController();
  const draw = (): void => {
    const period = before.length === 0 ? 'since the start' : `every ${seconds} s`;
    const title = `blockfuse top  ${new Date().toTimeString().slice(0, 8)}  ${period}  (q quits)`;
    screen.draw([
      { text: title.slice(0, screen.width), kind: 'group' },
      ...render(before, now, screen.width),
    ]);
  };
  const screen = new Screen({
    ended: () => {
      end.abort();
    },
    changed: draw,
  });
  screen.open();
  try {
    while (await pause(seconds, end.signal)) {
      const next = await askStats(server).catch(() => undefined);
      if (next === undefined) break;
      before = now;
      now = next;
      draw();
    }
  } finally {
    screen.close();
  }
  if (!end.signal.aborted) print(`the server of "${server ?? ''}" has ended`);
}

/** A table for each interval, until the reader has enough. */
export async function printTables({ server, seconds, count }: TopOptions): Promise<void> {
  const end = new AbortController();
  process.stdout.on('error', () => {
    end.abort();
  });
  let before = await askStats(server);
  for (let printed = 0; count === undefined || printed < count; printed += 1) {
    if (!(await pause(seconds, end.signal))) return;
    const now = printed === 0 ? await askStats(server) : await askStats(server).catch(() => undefined);
    if (now === undefined) return;
    const lines = render(before, now, PLAIN_WIDTH).map(({ text }) => text);
    print(`${new Date(now[0]?.time ?? Date.now()).toISOString()}\n${lines.join('\n')}\n`);
    before = now;
  }
}

function render(before: readonly StatsReport[], now: readonly StatsReport[], width: number): Line[] {
  if (now.length === 0) return [{ text: 'no server of yours is running', kind: 'note' }];
  const groups = now.map((report): RowGroup => {
    const earlier = before.find(({ pid, started }) => pid === report.pid && started === report.started);
    const { pid, memory } = report;
    return { title: `server ${pid}, ${formatSize(memory)} of memory`, rows: rowsBetween(earlier, report) };
  });
  return tableLines(groups, width);
}

/** False: it is to end. */
async function pause(seconds: number, signal: AbortSignal): Promise<boolean> {
  await delay(seconds * 1000, undefined, { signal }).catch(() => undefined);
  return !signal.aborted;
}
