import type { DirtyBitmap } from './dirty-bitmap.ts';

/**
 * Dirty bitmaps that an image keeps. The node notes writes in them from the start: they are in its watch (write-watch.ts).
 * Called with nothing under way above the node.
 */
export interface BitmapCapability {
  /** Those in the image, and those that are to be. */
  list(): readonly DirtyBitmap[];
  /** One more: stored when the image is closed or becomes read-only. Throws, in words, where it can't be stored. */
  add(bitmap: DirtyBitmap): void;
  /** The image has it no more when this resolves. */
  remove(bitmap: DirtyBitmap): Promise<void>;
  /** Before one changes otherwise than by a write: the image says then that what it has of it is not to be believed. */
  changing(bitmap: DirtyBitmap): Promise<void>;
}
