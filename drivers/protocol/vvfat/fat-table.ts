/** The allocation table, made when it is read: each run of clusters is a chain that counts up. */
import { runAt } from './allocate.ts';
import type { Run } from './allocate.ts';
import type { FatType } from './geometry.ts';

const END: Readonly<Record<FatType, number>> = { 12: 0xfff, 16: 0xffff, 32: 0x0fffffff };

export class FatTable {
  private readonly type: FatType;
  private readonly media: number;
  private readonly runs: readonly Run[];

  constructor(type: FatType, media: number, runs: readonly Run[]) {
    this.type = type;
    this.media = media;
    this.runs = runs;
  }

  /** Clusters from 2 on that are in use. */
  get used(): number {
    return (this.runs.at(-1)?.end ?? 2) - 2;
  }

  /** Fills bytes[at, at+length) with the table from byte `offset` on. */
  read(bytes: Buffer, at: number, length: number, offset: number): void {
    for (let done = 0; done < length; done += 1) bytes[at + done] = this.byteAt(offset + done);
  }

  /** An entry of 12 bits shares a byte with its neighbour: the even one has the low half. */
  private byteAt(offset: number): number {
    if (this.type !== 12) {
      const width = this.type / 8;
      const value = this.entry(Math.floor(offset / width));
      return Math.floor(value / 256 ** (offset % width)) % 256;
    }
    const pair = Math.floor(offset / 3) * 2;
    const both = this.entry(pair) + this.entry(pair + 1) * 4096;
    return Math.floor(both / 256 ** (offset % 3)) % 256;
  }

  private entry(cluster: number): number {
    const end = END[this.type];
    if (cluster === 0) return end - 0xff + this.media;
    if (cluster === 1) return end;
    if (cluster === this.lastCluster) return this.lastValue;
    this.lastCluster = cluster;
    const run = this.findRun(cluster);
    this.lastValue = run === undefined ? 0 : cluster + 1 === run.end ? end : cluster + 1;
    return this.lastValue;
  }

  /** The same entry is asked for up to four times, and its neighbour next. */
  private lastCluster = -1;
  private lastValue = 0;
  private lastRun: Run | undefined;

  private findRun(cluster: number): Run | undefined {
    const { lastRun } = this;
    if (lastRun !== undefined && cluster >= lastRun.first && cluster < lastRun.end) return lastRun;
    this.lastRun = runAt(this.runs, cluster);
    return this.lastRun;
  }
}
