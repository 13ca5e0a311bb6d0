/**
 * Keeps the view: before a cluster of the source changes for the first time, what it holds goes to the target.
 *
 *   a write                      exclusive lock on clusters that are still in the source: copy, mark, unlock; then write
 *   a read of the view           shared lock while it reads the source, so that no write gets in between
 *
 * A cluster that has left the source needs no lock: writes don't touch its copy.
 */
import type { Child } from '../../../src/block/child.ts';
import type { DirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { RangeLocks } from '../../../src/block/ranges.ts';
import { alignDown, alignUp } from '../../../src/util/sizes.ts';
import { ClusterState, ClusterStates } from './cluster-states.ts';

const CHUNK = 1024 * 1024;
const SYNC_MAX = 256 * 1024;

export interface CopyRules {
  /** Bytes that are copied at once, a power of two. */
  readonly cluster: number;
  /** What gives way when a copy fails: the guest's write, or the view. */
  readonly onError: 'break-guest-write' | 'break-snapshot';
  /** Seconds that a copy may hold up a write; 0: any. */
  readonly timeout: number;
}

export class Copier {
  readonly states: ClusterStates;
  readonly locks = new RangeLocks();
  readonly source: Child;
  readonly target: Child;
  readonly cluster: number;
  /** Bytes of the disk when the view was taken: what grows later is no part of it. */
  readonly size: number;
  /** Why the view is no longer to be trusted. */
  broken: BlockError | undefined = undefined;
  /** Why a part of the view may be missing, in words. */
  readonly lacks: string;
  private readonly rules: CopyRules;
  private scratch: Buffer | undefined = undefined;
  private readonly underWay = new Set<Promise<void>>();

  /** @param wanted what the view is to have, in whole clusters; all of the disk when left out */
  constructor(source: Child, target: Child, rules: CopyRules, wanted?: DirtyBitmap) {
    const { cluster } = rules;
    this.source = source;
    this.target = target;
    this.cluster = cluster;
    this.size = source.size;
    this.rules = rules;
    this.states = new ClusterStates(wanted === undefined ? ClusterState.source : ClusterState.dropped);
    this.lacks =
      wanted === undefined
        ? 'it was discarded there'
        : `bitmap "${wanted.name}" did not mark it there, or it was discarded`;
    if (wanted === undefined) return;
    for (let run = wanted.nextDirty(0); run !== undefined; run = wanted.nextDirty(run.offset + run.length))
      this.mark(alignDown(run.offset, cluster), run.offset + run.length, ClusterState.source);
  }

  /** Whether a write there harms nothing: all of it has left the source, or the view is no more. */
  isSettled(offset: number, length: number): boolean {
    if (this.broken !== undefined) return true;
    const end = Math.ceil(Math.min(offset + length, this.size) / this.cluster);
    for (let at = Math.floor(offset / this.cluster); at < end; at += 1)
      if (this.states.get(at) === ClusterState.source) return false;
    return true;
  }

  /** The same, after copying in this turn what can be copied without waiting. */
  trySettle(offset: number, length: number): boolean {
    if (this.isSettled(offset, length)) return true;
    const start = alignDown(offset, this.cluster);
    const end = Math.min(this.size, alignUp(offset + length, this.cluster));
    if (end - start > SYNC_MAX || !this.locks.isFree(start, end - start)) return false;
    for (let at = start; at < end;) {
      const run = this.run(at, end);
      if (this.stateAt(at) === ClusterState.source) {
        this.scratch ??= Buffer.allocUnsafeSlow(SYNC_MAX);
        if (!this.source.tryRead(this.scratch, 0, run - at, at)) return false;
        if (!this.target.tryWrite(this.scratch, 0, run - at, at)) return false;
        this.mark(at, run, ClusterState.target);
      }
      at = run;
    }
    return true;
  }

  /** Rejects when the write must not go on. */
  async settle(offset: number, length: number): Promise<void> {
    if (offset >= this.size || this.isSettled(offset, length)) return;
    const copying = this.copyLocked(offset, length);
    this.underWay.add(copying);
    const ended = copying.finally(() => this.underWay.delete(copying));
    ended.catch(() => undefined);
    try {
      await this.inTime(ended);
    } catch (error) {
      const text = `Cannot keep the view of "${this.source.node.name}": ${messageOf(error)}`;
      const failure = new BlockError(error instanceof BlockError ? error.code : 'EIO', text, {}, error);
      if (this.rules.onError === 'break-guest-write') throw failure;
      this.broken ??= failure;
    }
  }

  /** The view has no more use for these clusters. Only whole ones go. */
  async drop(offset: number, length: number): Promise<void> {
    const start = alignUp(offset, this.cluster);
    const end = offset + length >= this.size ? this.size : alignDown(offset + length, this.cluster);
    if (end <= start) return;
    const lock = await this.locks.acquire(start, end - start, true);
    try {
      for (let at = start; at < end;) {
        const run = this.run(at, end);
        const copied = this.stateAt(at) === ClusterState.target;
        this.mark(at, run, ClusterState.dropped);
        if (copied) await this.target.discard(at, run - at);
        at = run;
      }
    } finally {
      lock.release();
    }
  }

  /** The end of the run from `offset` that is in one state; at most `end`. */
  run(offset: number, end: number): number {
    const last = this.states.runEnd(Math.floor(offset / this.cluster), Math.ceil(end / this.cluster));
    return Math.min(end, last * this.cluster);
  }

  stateAt(offset: number): ClusterState {
    return this.states.get(Math.floor(offset / this.cluster));
  }

  /** Resolves when no copy is under way. */
  async finished(): Promise<void> {
    await Promise.allSettled(this.underWay);
  }

  private async copyLocked(offset: number, length: number): Promise<void> {
    const start = alignDown(offset, this.cluster);
    const end = Math.min(this.size, alignUp(offset + length, this.cluster));
    const lock = await this.locks.acquire(start, end - start, true);
    try {
      for (let at = start; at < end;) {
        const run = this.run(at, Math.min(end, at + Math.max(CHUNK, this.cluster)));
        if (this.stateAt(at) === ClusterState.source) {
          const bytes = Buffer.allocUnsafe(run - at);
          await this.source.read(bytes, at);
          await this.target.write(bytes, at);
          this.mark(at, run, ClusterState.target);
        }
        at = run;
      }
    } finally {
      lock.release();
    }
  }

  private mark(start: number, end: number, state: ClusterState): void {
    this.states.set(Math.floor(start / this.cluster), Math.ceil(end / this.cluster), state);
  }

  /** After the time is over the copy goes on by itself, its clusters locked; the write does not wait for it. */
  private async inTime(copying: Promise<void>): Promise<void> {
    const { timeout } = this.rules;
    if (timeout === 0) return copying;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        reject(new BlockError('ETIMEDOUT', `a copy took longer than ${timeout} s`));
      }, timeout * 1000);
    });
    try {
      await Promise.race([copying, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
