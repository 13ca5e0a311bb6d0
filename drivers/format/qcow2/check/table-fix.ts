import type { Image } from '../image.ts';
import type { RepairLog } from './findings.ts';

/** New bytes for an entry of a table. */
export interface TableFix {
  /** Byte offset in the file. */
  readonly at: number;
  readonly bytes: Buffer;
  /** What was done, in the past tense. */
  readonly message: string;
  /** Something is lost by it. */
  readonly loses: boolean;
}

/**
 * An entry that names a place it can't mean: misaligned, or where another table is. Where the bits that must be 0 are taken
 * away it may be right after all: if its cluster is counted as used and nothing else names it.
 */
export interface Suspect {
  /** The place without those bits; undefined where that can't help. */
  readonly cluster: number;
  readonly isTable: boolean;
  /** How often the entry itself is counted in its cluster. */
  readonly own: number;
  readonly keep: TableFix;
  readonly giveUp: TableFix;
}

/** Each entry by itself is as good or better afterwards: it does not matter where an error or a crash ends this. */
export async function applyFixes(image: Image, fixes: readonly TableFix[], log: RepairLog): Promise<void> {
  for (const { at, bytes, message, loses } of fixes) {
    await image.file.write(bytes, at);
    if (loses) log.gaveUp(message);
    else log.did(message);
  }
  await image.file.flush();
}
