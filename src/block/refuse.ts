import { BlockError } from './errors.ts';
import type { ErrnoCode } from './errors.ts';

/** An image that can't be opened: `is` names field and value, `wanted` the expectation. */
export function refuseImage(subject: string, is: string, wanted: string, code: ErrnoCode = 'EINVAL'): never {
  throw new BlockError(code, `Cannot open image "${subject}": ${is}, ${wanted}`);
}

/** Damage met in use: an image that opened well names a place that can't be. */
export function damaged(subject: string, is: string, wanted: string): BlockError {
  return new BlockError('EIO', `Cannot use image "${subject}": ${is}, ${wanted}`);
}

/** For drivers that can shrink: only when that was asked for. */
export function requireShrink(subject: string, from: number, to: number, shrink: boolean): void {
  if (to >= from || shrink) return;
  const text = `it has ${from} bytes, and shrinking was not asked for`;
  throw new BlockError('EINVAL', `Cannot resize "${subject}" to ${to} bytes: ${text}`);
}
