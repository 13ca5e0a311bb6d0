/** Buckets of a histogram: the first ends at 1 us, each further one at twice as much; the last has no end. */
export const LATENCY_BUCKETS = 26;

/** Upper ends of all buckets but the last, in us. */
export const LATENCY_BOUNDS: readonly number[] = Array.from(
  { length: LATENCY_BUCKETS - 1 },
  (_, index) => 2 ** index,
);

/** So many requests are timed each; of more that are answered at once, one of SAMPLE, which stands for as many. */
const TIMED_ALL = 64;
const SAMPLE = 16;

/**
 * How long requests of one kind took. A look at the clock costs up to a tenth of a microsecond, a read from memory little
 * more than that in all: so requests that are answered at once are sampled, those that waited are all timed.
 */
export class Latency {
  /** Requests by the bucket of their time. */
  readonly buckets = new Float64Array(LATENCY_BUCKETS);
  /** Of all of them, in us. */
  total = 0;

  /** How many requests the next one stands for when it is timed; 0: don't. @param before requests so far */
  static weight(before: number): number {
    if (before < TIMED_ALL) return 1;
    return (before & (SAMPLE - 1)) === 0 ? SAMPLE : 0;
  }

  /** @param started by performance.now() */
  since(started: number, weight: number): void {
    const us = (performance.now() - started) * 1000;
    const index = us <= 1 ? 0 : Math.min(LATENCY_BUCKETS - 1, 32 - Math.clz32(Math.ceil(us) - 1));
    this.buckets[index] = (this.buckets[index] ?? 0) + weight;
    this.total += us * weight;
  }
}

/** One of each kind of request. */
export class Latencies {
  readonly read = new Latency();
  readonly write = new Latency();
  readonly zero = new Latency();
  readonly discard = new Latency();
  readonly flush = new Latency();
}

export type RequestKind = keyof Latencies;
