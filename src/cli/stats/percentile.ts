import type { LatencyStats } from '../../control/stats.ts';

/**
 * The time, in us, that the given share (0 to 1) of requests did not exceed: within its bucket as if they were spread evenly.
 * Undefined without requests; of the last bucket only its lower end is known.
 */
export function percentile(
  { buckets }: Pick<LatencyStats, 'buckets'>,
  bounds: readonly number[],
  share: number,
): number | undefined {
  const count = sum(buckets);
  if (count === 0) return undefined;
  let before = 0;
  for (const [index, inside] of buckets.entries()) {
    const from = index === 0 ? 0 : (bounds[index - 1] ?? 0);
    const to = bounds[index] ?? from;
    if (inside > 0 && before + inside >= share * count)
      return from + ((to - from) * (share * count - before)) / inside;
    before += inside;
  }
  return bounds.at(-1);
}

export const sum = (values: readonly number[]): number => values.reduce((before, value) => before + value, 0);

/** A time of so many us for people: `870 ns`, `12 us`, `3.4 ms`; `-` when there is none. */
export function formatTime(us: number | undefined): string {
  if (us === undefined) return '-';
  if (us < 1) return `${Math.round(us * 1000)} ns`;
  if (us < 1000) return `${Number(us.toPrecision(us < 10 ? 2 : 3))} us`;
  if (us < 1_000_000) return `${Number((us / 1000).toPrecision(us < 10_000 ? 2 : 3))} ms`;
  return `${Number((us / 1_000_000).toPrecision(3))} s`;
}
