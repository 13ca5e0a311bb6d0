/**
 * A leaky bucket: units are poured in as they are used, and leak out at the permitted rate. A request may pass while the
 * bucket is not fuller than its capacity; it then pours in all of its units, so that a large one is paid for afterwards.
 *
 *     average only            capacity = average / 10: bursts of a tenth of a second
 *     max (and length 1)      capacity = max: that many units at once, then the average
 *     max and length > 1      capacity = max * length, and a second bucket that leaks at `max` keeps the burst to that rate
 */
export interface BucketRate {
  /** Units per second; 0: no limit. */
  readonly average: number;
  /** Units per second during a burst; 0: none. */
  readonly max: number;
  /** Seconds that a burst may take. */
  readonly length: number;
}

const BURST_SHARE = 10;

export class LeakyBucket {
  readonly rate: BucketRate;
  private readonly capacity: number;
  private level = 0;
  private burstLevel = 0;
  private leakedAt: number;

  /** @param now milliseconds on a clock that never goes back */
  constructor(rate: BucketRate, now: number) {
    this.rate = rate;
    this.capacity = rate.max > 0 ? rate.max * rate.length : rate.average / BURST_SHARE;
    this.leakedAt = now;
  }

  /** Milliseconds until a request may pass; 0: it may now. */
  wait(now: number): number {
    const { average, max, length } = this.rate;
    if (average === 0) return 0;
    this.leak(now);
    const slow = Math.max(0, this.level - this.capacity) / average;
    if (max === 0 || length <= 1) return slow * 1000;
    return Math.max(slow, Math.max(0, this.burstLevel - max / BURST_SHARE) / max) * 1000;
  }

  /** A request passes now, whatever `wait` says. */
  pour(units: number, now: number): void {
    if (this.rate.average === 0) return;
    this.leak(now);
    this.level += units;
    this.burstLevel += units;
  }

  private leak(now: number): void {
    const seconds = Math.max(0, now - this.leakedAt) / 1000;
    this.leakedAt = Math.max(now, this.leakedAt);
    this.level = Math.max(0, this.level - this.rate.average * seconds);
    this.burstLevel = Math.max(0, this.burstLevel - this.rate.max * seconds);
  }
}
