/**
 * The consistency check of the specification: every cluster is referenced once at most, every offset is aligned and
 * inside the file. Works on the file, not on cached tables; memory is one bit a cluster of the file.
 */
import type { Child } from '../../../src/block/child.ts';
import type { CheckResult } from '../../../src/block/driver.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64LE, showU64 } from '../../../src/util/bytes.ts';
import type { Header } from './header.ts';

const PIECE = 64 * 1024;
const BITMAP_MAX = 64 * 1024 * 1024;
const MESSAGES_MAX = 100;

export interface QedCheck extends CheckResult {
  /** Clusters that two entries name: nothing here can tell whose they are. */
  shared: number;
}

/** @param repair sets entries that name no possible place to 0 (unallocated) */
export async function checkQed(
  file: Child,
  header: Header,
  subject: string,
  repair: boolean,
): Promise<QedCheck> {
  const run = new Check(file, header, repair);
  if (run.clusters / 8 > BITMAP_MAX) {
    refuseImage(
      subject,
      `the file has ${run.clusters} clusters`,
      `at most ${BITMAP_MAX * 8} can be checked`,
      'EFBIG',
    );
  }
  await run.scan();
  return run.result;
}

class Check {
  readonly clusters: number;
  readonly result: QedCheck;
  private readonly file: Child;
  private readonly header: Header;
  private readonly repair: boolean;
  private readonly used: Uint8Array;

  constructor(file: Child, header: Header, repair: boolean) {
    this.file = file;
    this.header = header;
    this.repair = repair;
    this.clusters = Math.floor(file.size / header.cluster_size);
    this.used = new Uint8Array(Math.min(BITMAP_MAX, Math.ceil(this.clusters / 8)));
    this.result = {
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
      corruptionsFixed: 0,
      leaksFixed: 0,
      shared: 0,
      imageEndOffset: file.size,
      totalClusters: Math.ceil(header.image_size / header.cluster_size),
      allocatedClusters: 0,
      messages: [],
    };
  }

  async scan(): Promise<void> {
    const { header_size: head, l1_table_offset: l1, table_size: table, cluster_size: cluster } = this.header;
    this.mark(0, head, 'header');
    this.mark(l1 / cluster, table, 'L1 table');
    await this.eachEntry(l1, 'L1', table, (offset) => this.scanTable(offset));
    let leaked = 0;
    let end = 0;
    for (let index = 0; index < this.clusters; index += 1) {
      if (this.isUsed(index)) end = index + 1;
      else leaked += 1;
    }
    this.result.imageEndOffset = end * cluster;
    this.result.leaks = leaked;
    if (leaked > 0) this.say(`${leaked} clusters are used by nothing`);
  }

  private async scanTable(offset: number): Promise<void> {
    await this.eachEntry(offset, `L2 table at ${offset},`, 1, () => {
      this.result.allocatedClusters = (this.result.allocatedClusters ?? 0) + 1;
    });
  }

  /** Looks at all entries of a table that name something; `visit` gets the good ones. */
  private async eachEntry(
    table: number,
    name: string,
    clustersNamed: number,
    visit: (offset: number) => Promise<void> | void,
  ): Promise<void> {
    const length = this.header.table_size * this.header.cluster_size;
    const bytes = Buffer.allocUnsafe(Math.min(PIECE, length));
    for (let at = 0; at < length; at += bytes.length) {
      await this.file.read(bytes, table + at);
      for (let entry = 0; entry < bytes.length; entry += 8) {
        const offset = readU64LE(bytes, entry);
        if (offset === 0 || (offset === 1 && name !== 'L1')) continue;
        const label = `${name} entry ${(at + entry) / 8}`;
        if (!this.isPlace(offset, clustersNamed)) {
          await this.refuse(
            table + at + entry,
            `${label} is ${showU64(bytes, entry, true)}, no place of a cluster`,
          );
        } else if (this.mark(offset / this.header.cluster_size, clustersNamed, label)) {
          await visit(offset);
        }
      }
    }
  }

  private isPlace(offset: number, clusters: number): boolean {
    const cluster = this.header.cluster_size;
    return offset % cluster === 0 && offset / cluster + clusters <= this.clusters && offset > 0;
  }

  private async refuse(at: number, message: string): Promise<void> {
    this.result.corruptions += 1;
    this.say(message);
    if (!this.repair) return;
    await this.file.write(Buffer.alloc(8), at);
    this.result.corruptionsFixed += 1;
    this.result.corruptions -= 1;
  }

  private mark(first: number, count: number, label: string): boolean {
    let shared = 0;
    for (let index = first; index < first + count; index += 1) {
      if (this.isUsed(index)) shared += 1;
      const byte = Math.floor(index / 8);
      this.used[byte] = (this.used[byte] ?? 0) | (1 << (index % 8));
    }
    if (shared === 0) return true;
    this.result.corruptions += 1;
    this.result.shared += 1;
    this.say(`${label} names cluster ${first}, which is used already`);
    return false;
  }

  private isUsed(index: number): boolean {
    return ((this.used[Math.floor(index / 8)] ?? 0) & (1 << (index % 8))) !== 0;
  }

  private say(message: string): void {
    if (this.result.messages.length < MESSAGES_MAX) this.result.messages.push(message);
  }
}
