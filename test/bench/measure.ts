import { createReadStream, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { runFio } from './fio.ts';
import { formatOf } from './images.ts';
import type { Images } from './images.ts';
import { output } from './process.ts';
import type { Row } from './rows.ts';
import { startBlockfuse, startNothing, startQemu } from './servers.ts';
import type { Served, Starter } from './servers.ts';

export interface Settings {
  readonly rounds: number;
  readonly seconds: number;
}

/** What one row came to. Rates in requests per second for small blocks, bytes per second for large ones. */
export interface RowResult {
  readonly row: Row;
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  /** Median of ours over median of theirs. */
  readonly ratio: number;
  readonly readyMs: number;
  readonly theirReadyMs: number;
  /** Largest resident memory of our server, bytes. */
  readonly residentBytes: number;
  /** Processor time that our idle server used, in percent of one processor. */
  readonly idlePercent: number;
}

type Who = 'a' | 'b';

/** Measures a row: both servers, in turns, A B A B ... */
export async function measure(row: Row, images: Images, settings: Settings): Promise<RowResult> {
  const measurement = new Measurement(row, images, settings);
  await measurement.run();
  return measurement.result();
}

class Measurement {
  private readonly row: Row;
  private readonly images: Images;
  private readonly settings: Settings;
  private readonly rates: Record<Who, number[]> = { a: [], b: [] };
  private readonly ready: Record<Who, number[]> = { a: [], b: [] };
  private resident = 0;
  private idle = 0;

  constructor(row: Row, images: Images, settings: Settings) {
    this.row = row;
    this.images = images;
    this.settings = settings;
  }

  async run(): Promise<void> {
    if (this.row.fresh === true) return this.runFresh();
    const a = await this.start('a', await this.images.get(this.row.image, 'a'));
    const b = await this.start(
      'b',
      await this.images.get(this.row.image, this.row.against === 'host' ? 'a' : 'b'),
    );
    // What the making of the images left to be written would be written during the measurements.
    await output('sync', []);
    await this.warm(a);
    await this.warm(b);
    this.idle = await idlePercent(a.pid);
    for (let round = 0; round < this.settings.rounds; round += 1) {
      await this.load('a', a);
      await this.load('b', b);
    }
    await a.end();
    await b.end();
  }

  result(): RowResult {
    const { a: ours, b: theirs } = this.rates;
    return {
      row: this.row,
      ours,
      theirs,
      ratio: median(ours) / median(theirs),
      readyMs: median(this.ready.a),
      theirReadyMs: median(this.ready.b),
      residentBytes: this.resident,
      idlePercent: this.idle,
    };
  }

  private async runFresh(): Promise<void> {
    for (let round = 0; round < this.settings.rounds; round += 1) {
      for (const who of ['a', 'b'] as const) {
        const image = await this.images.fresh(who);
        const served = await this.start(who, image);
        await this.load(who, served);
        await served.end();
        await rm(image);
      }
    }
  }

  private async start(who: Who, image: string): Promise<Served> {
    const starters: Record<string, Starter> = { a: startBlockfuse, bqemu: startQemu, bhost: startNothing };
    const starter = starters[who === 'a' ? 'a' : `b${this.row.against}`] ?? startNothing;
    const key = await this.images.keyFile(this.row.image);
    const served = await starter(image, formatOf(this.row.image), key);
    this.ready[who].push(served.readyMs);
    return served;
  }

  /** Brings the image into the host's cache, and the server's code to temperature. */
  private async warm(served: Served): Promise<void> {
    await readAll(served.file);
    await runFio(served.file, this.images.sizeOf(this.row.image), { ...this.row.load }, 0.5);
  }

  private async load(who: Who, served: Served): Promise<void> {
    if (this.row.cold === true) await dropCaches();
    const size = this.images.sizeOf(this.row.image);
    const bytes = await runFio(served.file, size, this.row.load, this.settings.seconds);
    this.rates[who].push(isSmall(this.row) ? bytes / this.row.load.block : bytes);
    if (who === 'a') this.resident = Math.max(this.resident, peakResident(served.pid));
  }
}

/** Whether a row is told in requests, not bytes, per second. */
export const isSmall = (row: Row): boolean => row.load.block <= 4096;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

async function readAll(file: string): Promise<void> {
  for await (const _ of createReadStream(file, { highWaterMark: 1024 * 1024 }));
}

async function dropCaches(): Promise<void> {
  await output('sync', []);
  if (process.getuid?.() !== 0) throw new Error('Cannot empty the page cache: needs root');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

function peakResident(pid: number | undefined): number {
  if (pid === undefined || !existsSync(`/proc/${pid}`)) return 0;
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

/** Clock ticks are 1/100 s on Linux. */
function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function idlePercent(pid: number | undefined): Promise<number> {
  if (pid === undefined) return 0;
  await delay(300);
  const before = processorSeconds(pid);
  await delay(1000);
  return (processorSeconds(pid) - before) * 100;
}
