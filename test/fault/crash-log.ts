import type { ModelDisk } from '../helpers/model-disk.ts';

/**
 * What each block of a disk may hold after a crash: the newest value that a completed fsync covered, or any begun later.
 *
 *   values:   old   A   B   C   D        base: index of the oldest value that may still be there
 *                       ^base   ^begun, not answered
 */
export class CrashLog {
  private readonly blocks = new Map<number, { values: Buffer[]; base: number; answered: number }>();
  private readonly start: ModelDisk;
  private readonly block: number;

  constructor(start: ModelDisk, block: number) {
    this.start = start;
    this.block = block;
  }

  /** Before a write is begun; a block is never written twice at once. */
  begin(index: number, bytes: Buffer): void {
    this.of(index).values.push(bytes);
  }

  /** The write was answered: an fsync that begins from now on covers it. */
  answer(index: number): void {
    const log = this.of(index);
    log.answered = log.values.length - 1;
  }

  /** Before an fsync; the returned function notes that it is done. */
  beginSync(): () => void {
    const covered = [...this.blocks.values()].map((log) => [log, log.answered] as const);
    return () => {
      for (const [log, answered] of covered) log.base = Math.max(log.base, answered);
    };
  }

  /** Number of the first block that holds something it may not; undefined when all is well. */
  firstWrong(disk: Buffer): number | undefined {
    const { block, start } = this;
    for (let index = 0; index * block < start.size; index += 1) {
      const found = disk.subarray(index * block, (index + 1) * block);
      const log = this.blocks.get(index);
      const allowed = log?.values.slice(log.base) ?? [start.read(index * block, block)];
      if (!allowed.some((bytes) => bytes.equals(found))) return index;
    }
    return undefined;
  }

  private of(index: number): { values: Buffer[]; base: number; answered: number } {
    let log = this.blocks.get(index);
    if (log === undefined) {
      const first = Buffer.from(this.start.read(index * this.block, this.block));
      log = { values: [first], base: 0, answered: 0 };
      this.blocks.set(index, log);
    }
    return log;
  }
}
