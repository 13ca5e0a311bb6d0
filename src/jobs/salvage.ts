import type { Child } from '../block/child.ts';

/** The smallest piece that is given up. */
const PIECE = 512;

/** Told of what could not be read and counts as zeroes. */
export type Lost = (offset: number, length: number, error: unknown) => void;

/** Reads; with `lost` what can't be read, piece by piece, becomes zeroes. */
export async function readOrZero(
  source: Child,
  bytes: Buffer,
  offset: number,
  lost: Lost | undefined,
): Promise<void> {
  if (lost === undefined) return source.read(bytes, offset);
  try {
    await source.read(bytes, offset);
  } catch {
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE);
      await source.read(piece, offset + at).catch((error: unknown) => {
        piece.fill(0);
        lost(offset + at, piece.length, error);
      });
    }
  }
}
