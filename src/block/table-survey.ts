import type { Child } from './child.ts';
import { BlockError } from './errors.ts';
import { turn } from '../util/turn.ts';

const PIECE = 1024 * 1024;
const ENTRY = 8;

/** Lets everything else have its turn after each MiB of tables: a survey has some gigabytes before it at worst. */
export class SurveyPace {
  private left = PIECE;

  async looked(bytes: number): Promise<void> {
    this.left -= bytes;
    if (this.left > 0) return;
    this.left = PIECE;
    await turn();
  }
}

/**
 * What the tables of an image name, looked through before its file grows for the first time. A file that was cut off
 * has tables that name places behind its end: whatever were put there would belong to two.
 */
export interface Survey {
  readonly file: Child;
  readonly subject: string;
  /** Tells `visit` of each place that a table on disk names; NaN for an offset over 2^53. */
  readonly each: (visit: VisitPlace) => Promise<void>;
}

export type VisitPlace = (offset: number, length: number) => void;

/** Byte behind the last place that is named. Throws EIO when one begins behind the end of the file. */
export async function endOfPlaces({ file, subject, each }: Survey): Promise<number> {
  const { size } = file;
  let end = 0;
  await each((offset, length) => {
    if (!(offset < size)) throw cutOff(subject, offset, size);
    end = Math.max(end, offset + length);
  });
  return end;
}

function cutOff(subject: string, offset: number, size: number): BlockError {
  const is = `its tables name byte ${offset} of the file, which ends at ${size}: it was cut off`;
  const text = `Cannot write to image "${subject}": ${is}; it can be opened with read-only=on`;
  return new BlockError('EIO', text);
}

function overlapping(subject: string, size: number): BlockError {
  const is = `it names more tables than the file of ${size} bytes has room for: some lie over one another`;
  return new BlockError(
    'EIO',
    `Cannot write to image "${subject}": ${is}; it can be opened with read-only=on`,
  );
}

export interface TwoLevels {
  readonly file: Child;
  readonly subject: string;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly l2Entries: number;
}

/**
 * Directory and tables of 64-bit entries. `place` decodes the entry at `at`: the offset of a table or cluster, 0 without one.
 * Throws EIO where there are more tables than the file has room for: some lie over one another.
 */
export async function eachOfTwoLevels(
  shape: TwoLevels,
  place: (bytes: Buffer, at: number, isTable: boolean) => number,
  lengths: { readonly table: number; readonly cluster: number },
  visit: VisitPlace,
): Promise<void> {
  const { file, subject, l1Offset, l1Entries, l2Entries } = shape;
  const pace = new SurveyPace();
  let room = file.size;
  await eachPiece(file, { offset: l1Offset, length: l1Entries * ENTRY, pace }, async (l1) => {
    for (let at = 0; at < l1.length; at += ENTRY) {
      const table = place(l1, at, true);
      if (table === 0) continue;
      visit(table, lengths.table);
      room -= lengths.table;
      if (room < 0) throw overlapping(subject, file.size);
      await eachPiece(file, { offset: table, length: l2Entries * ENTRY, pace }, (l2) => {
        for (let entry = 0; entry < l2.length; entry += ENTRY) {
          const offset = place(l2, entry, false);
          if (offset !== 0) visit(offset, lengths.cluster);
        }
      });
    }
  });
}

/** Bytes of the file from `offset` on, in pieces. */
export async function eachPiece(
  file: Child,
  { offset, length, pace }: { offset: number; length: number; pace: SurveyPace },
  look: (bytes: Buffer) => Promise<void> | void,
): Promise<void> {
  for (let at = 0; at < length; at += PIECE) {
    const bytes = Buffer.allocUnsafe(Math.min(PIECE, length - at));
    if (!file.tryRead(bytes, 0, bytes.length, offset + at)) await file.read(bytes, offset + at);
    await look(bytes);
    await pace.looked(bytes.length);
  }
}
