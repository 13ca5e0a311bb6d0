/** Finding what a log wants replayed, [MS-VHDX] 2.3.3. Pure: the bytes of the log in, the entries out. */
import { entryAt, entryHeaderAt, SECTOR } from './log-entry.ts';
import type { LogChange, LogEntry } from './log-entry.ts';

/** Checksums are counted over at most so many times the log: entries of a bad file may overlap. */
const WORK_MAX = 8;

export interface Replay {
  /** In the order in which they have to be applied. */
  readonly changes: readonly LogChange[];
  readonly sequence: bigint;
  readonly flushedFileOffset: number;
  readonly lastFileOffset: number;
}

/**
 * The active sequence: the valid one whose last entry has the highest sequence number, from the tail that this entry
 * names. Undefined when there is none.
 */
export function findReplay(log: Buffer, guid: string): Replay | undefined {
  let best: LogEntry[] = [];
  const reader = new EntryReader(log, guid);
  for (let at = 0; at < log.length && reader.mayGoOn;) {
    const sequence = reader.sequenceFrom(at);
    const head = sequence.at(-1);
    if (head === undefined) {
      at += SECTOR;
      continue;
    }
    const tail = sequence.findIndex((entry) => entry.at === head.tail);
    if (tail >= 0 && head.sequence_number > (best.at(-1)?.sequence_number ?? 0n)) best = sequence.slice(tail);
    at = Math.max(
      at + SECTOR,
      sequence.reduce((end, entry) => end + entry.entry_length, at),
    );
  }
  const head = best.at(-1);
  if (head === undefined) return undefined;
  return {
    changes: best.flatMap(({ changes }) => changes),
    sequence: head.sequence_number,
    flushedFileOffset: head.flushed_file_offset,
    lastFileOffset: head.last_file_offset,
  };
}

class EntryReader {
  private readonly log: Buffer;
  private readonly guid: string;
  private left: number;

  constructor(log: Buffer, guid: string) {
    this.log = log;
    this.guid = guid;
    this.left = log.length * WORK_MAX;
  }

  get mayGoOn(): boolean {
    return this.left > 0;
  }

  /** Entries that follow one another, each with the next sequence number, going round at most once. */
  sequenceFrom(start: number): LogEntry[] {
    const sequence: LogEntry[] = [];
    let at = start;
    for (let used = 0; used < this.log.length && this.mayGoOn;) {
      const entry = this.entry(at);
      const last = sequence.at(-1);
      if (entry === undefined || (last !== undefined && entry.sequence_number !== last.sequence_number + 1n))
        break;
      used += entry.entry_length;
      if (used > this.log.length) break;
      sequence.push(entry);
      at = (at + entry.entry_length) % this.log.length;
    }
    return sequence;
  }

  private entry(at: number): LogEntry | undefined {
    const header = entryHeaderAt(this.log, at, this.guid);
    if (header === undefined) return undefined;
    this.left -= header.entry_length;
    return entryAt(this.log, at, header);
  }
}
