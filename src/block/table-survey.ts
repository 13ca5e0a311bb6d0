import type { Child } from './child.ts';
import { BlockError } from './errors.ts';

const PIECE = 1024 * 1024;
const ENTRY = 8;

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

export interface TwoLevels {
  readonly file: Child;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly l2Entries: number;
}

/** Directory and tables of 64-bit entries. `place` decodes the entry at `at`: the offset of a table or cluster, 0 without one. */
export async function eachOfTwoLevels(
  shape: TwoLevels,
  place: (bytes: Buffer, at: number, isTable: boolean) => number,
  lengths: { readonly table: number; readonly cluster: number },
  visit: VisitPlace,
): Promise<void> {
  const { file, l1Offset, l1Entries, l2Entries } = shape;
  await eachPiece(file, l1Offset, l1Entries * ENTRY, async (l1) => {
    for (let at = 0; at < l1.length; at += ENTRY) {
      const table = place(l1, at, true);
      if (table === 0) continue;
      visit(table, lengths.table);
      await eachPiece(file, table, l2Entries * ENTRY, (l2) => {
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
  offset: number,
  length: number,
  look: (bytes: Buffer) => Promise<void> | void,
): Promise<void> {
  for (let at = 0; at < length; at += PIECE) {
    const bytes = Buffer.allocUnsafe(Math.min(PIECE, length - at));
    if (!file.tryRead(bytes, 0, bytes.length, offset + at)) await file.read(bytes, offset + at);
    await look(bytes);
  }
}
