import type { Limits } from './limits.ts';
import { alignUp } from '../util/sizes.ts';

/** Whether a range has a whole allocation unit: zeroes are then better stored as such. Part of one takes its room anyway. */
export function hasWholeUnit(
  { size, limits }: { readonly size: number; readonly limits: Limits },
  offset: number,
  length: number,
): boolean {
  const unit = limits.allocationUnit;
  const end = offset + length;
  return alignUp(offset, unit) + unit <= (end === size ? alignUp(end, unit) : end);
}

/** What became of a unit: it is as wanted, it can't be done by tables alone, or something has to be loaded first. */
export type UnitOutcome = 'done' | 'stop' | 'load';

/**
 * For `tryZero` and `tryDiscard` of formats whose tables have an entry a unit: visits the units that lie whole in
 * [offset, offset + length), the last one of the disk may be cut short. Returns what these promise: bytes handled, or false.
 */
export function eachWholeUnit(
  range: { offset: number; length: number },
  disk: { unit: number; size: number },
  visit: (index: number) => UnitOutcome,
): number | false {
  const { offset, length } = range;
  const { unit, size } = disk;
  if (offset % unit !== 0) return 0;
  let at = offset;
  while (at < offset + length) {
    const next = Math.min(at + unit, size);
    if (next > offset + length) break;
    const outcome = visit(at / unit);
    if (outcome === 'load') return at > offset ? at - offset : false;
    if (outcome === 'stop') break;
    at = next;
  }
  return at - offset;
}
