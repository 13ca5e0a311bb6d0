/**
 * Range locks of one node: who may be inside which range at the same time.
 *
 *   entries, in order of arrival:   [shared 0-64k: held] [exclusive 0-64k: waits] [shared 32k-36k: waits behind it]
 *
 * An entry is granted when no earlier entry that overlaps conflicts with it (two shared ones don't). So nobody
 * starves. A holder never asks for a second range of the same node: there is no lock order to get wrong.
 * What runs in one turn (the fast path) takes no lock; it only asks whether an exclusive holder is in the way.
 */
export class RangeLock {
  granted = false;
  readonly offset: number;
  readonly length: number;
  readonly exclusive: boolean;
  private readonly owner: RangeLocks;
  grant: (() => void) | undefined = undefined;

  constructor(owner: RangeLocks, range: { offset: number; length: number; exclusive: boolean }) {
    this.owner = owner;
    this.offset = range.offset;
    this.length = range.length;
    this.exclusive = range.exclusive;
  }

  release(): void {
    this.owner.release(this);
  }
}

export class RangeLocks {
  private readonly entries: RangeLock[] = [];
  /** Exclusive entries, held or waiting; 0 lets the fast path skip the search. */
  private exclusiveCount = 0;

  /** Resolves when the range is held. Release it on every path. */
  async acquire(offset: number, length: number, exclusive: boolean): Promise<RangeLock> {
    const lock = new RangeLock(this, { offset, length, exclusive });
    this.entries.push(lock);
    if (exclusive) this.exclusiveCount += 1;
    if (this.mayHold(lock)) {
      lock.granted = true;
      return lock;
    }
    return new Promise((resolve) => {
      lock.grant = () => {
        resolve(lock);
      };
    });
  }

  /** Holds the range while `run` runs. */
  async during<Result>(
    range: { offset: number; length: number; exclusive: boolean },
    run: () => Promise<Result>,
  ): Promise<Result> {
    const lock = await this.acquire(range.offset, range.length, range.exclusive);
    try {
      return await run();
    } finally {
      lock.release();
    }
  }

  /** Whether a request that runs in this turn alone may write here: no exclusive entry overlaps. */
  isFreeOfExclusive(offset: number, length: number): boolean {
    return this.exclusiveCount === 0 || !this.overlaps(offset, length, true);
  }

  /** Whether nobody at all is in the range (a change of mapping in this turn is safe). */
  isFree(offset: number, length: number): boolean {
    return this.entries.length === 0 || !this.overlaps(offset, length, false);
  }

  release(lock: RangeLock): void {
    const index = this.entries.indexOf(lock);
    if (index < 0) return;
    this.entries.splice(index, 1);
    if (lock.exclusive) this.exclusiveCount -= 1;
    for (const entry of this.entries) {
      if (entry.granted || !this.mayHold(entry)) continue;
      entry.granted = true;
      entry.grant?.();
    }
  }

  private overlaps(offset: number, length: number, exclusiveOnly: boolean): boolean {
    for (const entry of this.entries) {
      if (exclusiveOnly && !entry.exclusive) continue;
      if (entry.offset < offset + length && offset < entry.offset + entry.length) return true;
    }
    return false;
  }

  private mayHold(lock: RangeLock): boolean {
    for (const entry of this.entries) {
      if (entry === lock) return true;
      const overlap = entry.offset < lock.offset + lock.length && lock.offset < entry.offset + entry.length;
      if (overlap && (entry.exclusive || lock.exclusive)) return false;
    }
    return true;
  }
}
