/**
 * Places of equal size in an image file that grows: which one the next allocation gets.
 *
 *     taken -> freed (still named by the table on disk) -> free (no table names it) -> taken
 *
 * A freed place is given out again only after the table that no longer names it was written and flushed. The driver
 * then makes it read as zeroes, so every place that is taken does.
 */
export class Places {
  /** Bytes, or whatever the driver counts in. */
  readonly step: number;
  /** First position that was never given out. */
  end: number;
  /** The lowest last: it is taken first, so that the end of the file gets free. */
  private readonly free: number[] = [];
  private freed: number[] = [];

  constructor(step: number, end: number) {
    this.step = step;
    this.end = end;
  }

  /** Whether the next place reads as zeroes: it lies behind everything. */
  get nextIsFresh(): boolean {
    return this.free.length === 0;
  }

  /** Forgets every free place: from here on the file was looked through again. */
  reset(end: number): void {
    this.end = end;
    this.free.length = 0;
    this.freed = [];
  }

  take(): number {
    const place = this.free.pop();
    if (place !== undefined) return place;
    this.end += this.step;
    return this.end - this.step;
  }

  /** A place that a table on disk may still name, or that was filled in part. */
  release(place: number): void {
    this.freed.push(place);
  }

  get hasReleased(): boolean {
    return this.freed.length > 0;
  }

  /** The places released so far; hand them to `reuse` once the tables are on disk, or to `keep` when that failed. */
  takeReleased(): number[] {
    const places = this.freed;
    this.freed = [];
    return places;
  }

  reuse(places: readonly number[]): void {
    for (const place of places) this.free.push(place);
    if (places.length > 0) this.free.sort((one, other) => other - one);
  }

  keep(places: readonly number[]): void {
    this.freed.push(...places);
  }

  /** Takes free places at the very end off it; what is left of the file may be cut there. */
  trimEnd(): void {
    this.free.sort((one, other) => one - other);
    while (this.free.at(-1) === this.end - this.step) {
      this.free.pop();
      this.end -= this.step;
    }
    this.free.reverse();
  }

  get freePlaces(): readonly number[] {
    return this.free;
  }
}
