/**
 * A mapping driver for tests that makes life hard for the core: its tables drop out of memory at any time, places move
 * at every chance and are poisoned when freed, allocation may fail, and it asserts whatever the core promises drivers.
 * It has no file format: its tables are gone after close.
 */
import type { Child } from '../../src/block/child.ts';
import type { DataCodec, MappingDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent, Placement } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';
import { bool, integer, optional, size } from '../../src/block/schema.ts';
import { Random } from './random.ts';

type Kind = 'none' | 'zero' | 'data' | 'shared' | 'packed';
/** `place` is a cluster of the file, -1 without one. A zero cluster may keep its place. */
interface Entry {
  kind: Kind;
  place: number;
}

const ENTRIES_PER_TABLE = 8;
const START: readonly Kind[] = ['none', 'none', 'zero', 'data', 'shared', 'packed'];

/** What every cluster is at the start, by seed. */
function startKinds(seed: number, count: number): Kind[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => random.pick(START));
}

const content = (seed: number, index: number, cluster: number): Buffer =>
  new Random(seed * 7919 + index).softBytes(cluster);

/** The whole disk as it reads right after open. `backing` is what lies below. */
export function startContent(
  options: { size: number; cluster: number; seed: number },
  backing: Buffer,
): Buffer {
  const { size: total, cluster, seed } = options;
  const disk = Buffer.alloc(total);
  backing.copy(disk);
  for (const [index, kind] of startKinds(seed, Math.ceil(total / cluster)).entries()) {
    if (kind === 'none') continue;
    const bytes = kind === 'zero' ? Buffer.alloc(cluster) : content(seed, index, cluster);
    bytes.copy(disk, index * cluster);
  }
  return disk;
}

class EvictingFormat implements MappingDriver {
  readonly family = 'mapping';
  readonly limits;
  readonly codec?: DataCodec;
  size: number;
  private readonly file: Child;
  private readonly cluster: number;
  private readonly seed: number;
  private readonly random: Random;
  private readonly failureRate: number;
  private readonly blank: boolean;
  private readonly entries: Entry[] = [];
  private readonly loaded = new Set<number>();
  private readonly pins = new Map<number, number>();
  private readonly live = new Map<number, number>();
  private readonly free: number[] = [];
  private end = 0;
  /** The table that the try which just returned false lacked; 'space' when it had no room. */
  private wanted: number | 'space' | undefined = undefined;

  constructor(file: Child, options: FormatOptions) {
    this.file = file;
    this.size = options.size;
    this.cluster = options.cluster;
    this.seed = options.seed;
    this.random = new Random(options.seed + 1);
    this.failureRate = options['fail-per-mille'] / 1000;
    this.blank = options.blank;
    this.limits = limits({ allocationUnit: this.cluster, discardAlignment: this.cluster });
    if (options.codec) this.codec = PLACE_XOR;
  }

  /** Gives every cluster its start content. */
  async fill(): Promise<void> {
    const kinds = startKinds(this.seed, Math.ceil(this.size / this.cluster));
    for (const [index, chosen] of kinds.entries()) {
      const kind = this.blank ? 'none' : chosen;
      const stored = kind === 'data' || kind === 'shared';
      const place = stored ? this.end++ : -1;
      this.entries.push({ kind, place });
      if (!stored) continue;
      const bytes = content(this.seed, index, this.cluster);
      this.codec?.encode(bytes, 0, bytes.length, index * this.cluster, place * this.cluster);
      await this.file.write(bytes, place * this.cluster);
    }
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const first = this.entryAt(offset);
    if (first === undefined) return false;
    const inCluster = offset % this.cluster;
    let length = this.cluster - inCluster;
    for (let index = this.indexOf(offset) + 1; length < max; index += 1, length += this.cluster) {
      const next = this.entries[index];
      if (next === undefined || !this.isLoaded(index) || next.kind !== first.kind) break;
      if (first.place >= 0 && next.place !== first.place + Math.ceil((length + inCluster) / this.cluster))
        break;
    }
    length = Math.min(length, max);
    return this.answer(first, length, inCluster, out);
  }

  async load(): Promise<void> {
    const { wanted } = this;
    if (wanted === undefined) throw new Error('load() without a try that returned false in the same turn');
    this.wanted = undefined;
    await this.delay();
    if (wanted === 'space') {
      throw new BlockError('ENOSPC', 'Cannot allocate in "evicting": full, as asked');
    }
    this.loaded.add(wanted);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const first = this.indexOf(offset);
    const last = this.indexOf(offset + length - 1);
    if (this.entryAt(offset) === undefined) return false;
    if (this.random.chance(this.failureRate)) return this.want('space');
    let count = 1;
    const most = this.random.between(1, 6);
    while (first + count <= last && count < most && this.mayJoin(first + count)) count += 1;
    const { place, fresh } = this.takePlace(count);
    out.child = this.file;
    out.offset = place * this.cluster;
    out.start = first * this.cluster;
    out.length = count * this.cluster;
    out.zeroed = fresh;
    out.token = { first, count, place };
    for (let index = first; index < first + count; index += 1) {
      if (this.live.has(index)) throw new Error(`cluster ${index} is being allocated already`);
      this.live.set(index, place);
      this.pin(index, 1);
    }
    return true;
  }

  commit(placement: Placement): void {
    const { first, count, place } = this.finish(placement);
    for (let index = first; index < first + count; index += 1) {
      if (!this.isLoaded(index)) throw new Error('a pinned table is not in memory');
      const old = this.entries[index];
      this.entries[index] = { kind: 'data', place: place + index - first };
      if (old !== undefined) this.release(old);
    }
  }

  abort(placement: Placement): void {
    const { count, place } = this.finish(placement);
    for (let at = place; at < place + count; at += 1) this.release({ kind: 'data', place: at });
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    await this.delay();
    this.unpack(bytes, 0, bytes.length, offset);
    await this.delay();
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.random.chance(0.5)) return false;
    this.unpack(bytes, at, length, offset);
    return true;
  }

  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    const entry = this.entryAt(offset);
    if (entry === undefined) return false;
    const reach = Math.min(this.cluster, this.size - offset);
    if (offset % this.cluster !== 0 || length < reach) return 0;
    const keep = !mayUnmap && entry.kind === 'data';
    this.entries[this.indexOf(offset)] = { kind: 'zero', place: keep ? entry.place : -1 };
    if (!keep) this.release(entry);
    return reach;
  }

  tryDiscard(offset: number, length: number): number | false {
    const entry = this.entryAt(offset);
    if (entry === undefined) return false;
    const reach = Math.min(this.cluster - (offset % this.cluster), this.size - offset);
    if (offset % this.cluster !== 0 || length < reach) return Math.min(length, reach);
    if (entry.kind === 'none' || (entry.kind === 'zero' && entry.place < 0)) return reach;
    this.entries[this.indexOf(offset)] = { kind: 'zero', place: -1 };
    this.release(entry);
    return reach;
  }

  async resize(bytes: number, shrink: boolean): Promise<void> {
    if (bytes < this.size && !shrink)
      throw new BlockError('EINVAL', 'Cannot resize "evicting": shrinking not asked for');
    await this.delay();
    const count = Math.ceil(bytes / this.cluster);
    for (let index = this.entries.length; index < count; index += 1)
      this.entries.push({ kind: 'zero', place: -1 });
    for (const entry of this.entries.splice(count)) this.release(entry);
    this.size = bytes;
  }

  async flush(): Promise<void> {
    await this.delay();
    await this.file.flush();
  }

  close(): Promise<void> {
    if (this.live.size > 0 || this.pins.size > 0)
      throw new Error('closed with placements neither committed nor aborted');
    return Promise.resolve();
  }

  private answer(entry: Entry, length: number, inCluster: number, out: Extent): true {
    const place = entry.place * this.cluster + inCluster;
    switch (entry.kind) {
      case 'none':
        return out.setUnallocated(length);
      case 'zero':
        return entry.place < 0 ? out.setZero(length) : out.setZero(length, true, this.file, place);
      case 'packed':
        return out.setOpaque(length, true);
      case 'data':
      case 'shared':
        return out.setData(this.file, place, length, entry.kind === 'data');
    }
  }

  private unpack(bytes: Buffer, at: number, length: number, offset: number): void {
    for (let done = 0; done < length;) {
      const from = (offset + done) % this.cluster;
      const step = Math.min(this.cluster - from, length - done);
      const index = this.indexOf(offset + done);
      if (this.entries[index]?.kind !== 'packed')
        throw new Error(`asked to unpack cluster ${index}, which is not packed`);
      content(this.seed, index, this.cluster).copy(bytes, at + done, from, from + step);
      done += step;
    }
  }

  private mayJoin(index: number): boolean {
    if (!this.isLoaded(index)) return false;
    return this.entries[index]?.kind !== 'data' || this.random.chance(0.3);
  }

  private takePlace(count: number): { place: number; fresh: boolean } {
    const reused = count === 1 ? this.free.pop() : undefined;
    if (reused !== undefined) return { place: reused, fresh: false };
    const place = this.end;
    this.end += count;
    return { place, fresh: true };
  }

  /** A freed place is overwritten at once: whoever still uses it gets caught. */
  private release(entry: Entry): void {
    if (entry.place < 0) return;
    this.free.push(entry.place);
    this.file.tryWrite(Buffer.alloc(this.cluster, 0xbd), 0, this.cluster, entry.place * this.cluster);
  }

  private finish(placement: Placement): { first: number; count: number; place: number } {
    const token = placement.token as { first: number; count: number; place: number };
    for (let index = token.first; index < token.first + token.count; index += 1) {
      if (this.live.get(index) !== token.place)
        throw new Error(`cluster ${index} is not being allocated there`);
      this.live.delete(index);
      this.pin(index, -1);
    }
    return token;
  }

  private pin(index: number, by: 1 | -1): void {
    const table = Math.floor(index / ENTRIES_PER_TABLE);
    const count = (this.pins.get(table) ?? 0) + by;
    if (count === 0) this.pins.delete(table);
    else this.pins.set(table, count);
  }

  private indexOf(offset: number): number {
    return Math.floor(offset / this.cluster);
  }

  private isLoaded(index: number): boolean {
    return this.loaded.has(Math.floor(index / ENTRIES_PER_TABLE));
  }

  /** The entry of an offset, or undefined with its table noted for load(). */
  private entryAt(offset: number): Entry | undefined {
    if (offset < 0 || offset >= this.size) throw new Error(`asked for offset ${offset} of ${this.size}`);
    this.evict();
    const index = this.indexOf(offset);
    if (this.isLoaded(index)) return this.entries[index];
    this.want(Math.floor(index / ENTRIES_PER_TABLE));
    return undefined;
  }

  private evict(): void {
    for (const table of this.loaded) {
      if (!this.pins.has(table) && this.random.chance(0.005)) this.loaded.delete(table);
    }
  }

  private want(what: number | 'space'): false {
    this.wanted = what;
    queueMicrotask(() => {
      this.wanted = undefined;
    });
    return false;
  }

  private async delay(): Promise<void> {
    for (let turns = this.random.below(3); turns > 0; turns -= 1) await new Promise(setImmediate);
  }
}

/** Stored bytes depend on where they are stored, so that bytes moved without the codec are noticed. */
const exclusiveOr: DataCodec['decode'] = (bytes, at, ...[length, , place]) => {
  for (let index = 0; index < length; index += 1) {
    bytes[at + index] = (bytes[at + index] ?? 0) ^ (((place + index) * 31 + 7) & 0xff);
  }
};
const PLACE_XOR: DataCodec = { unit: 1, decode: exclusiveOr, encode: exclusiveOr };

interface FormatOptions {
  readonly size: number;
  readonly cluster: number;
  readonly seed: number;
  readonly codec: boolean;
  readonly blank: boolean;
  readonly 'fail-per-mille': number;
}

export const evictingDriver = defineDriver({
  name: 'evicting',
  kind: 'format',
  summary: 'A format that keeps hardly any table in memory',
  options: {
    size: size('Size of the disk'),
    cluster: optional(size('Allocation unit'), 4096),
    seed: optional(integer('Seed of its start content and moods'), 1),
    codec: optional(bool('Store the data transformed'), false),
    blank: optional(bool('Start without content'), false),
    'has-backing': optional(bool('Look below'), false),
    'fail-per-mille': optional(integer('Allocations that fail, in a thousand'), 0),
  },
  children: {
    file: {
      roles: Role.data | Role.metadata | Role.primary,
      required: true,
      summary: 'Where the clusters are',
    },
    backing: { roles: Role.cow, required: false, summary: 'What lies below' },
  },
  async open(context) {
    const { options } = context;
    if (options['has-backing']) await context.openNamed('backing', { filename: 'none', roles: Role.cow });
    const format = new EvictingFormat(context.child('file'), options);
    await format.fill();
    return format;
  },
});
