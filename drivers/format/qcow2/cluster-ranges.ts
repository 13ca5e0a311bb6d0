/** Host clusters [first, end) and what they hold, in words. */
export interface ClusterRange {
  readonly first: number;
  readonly end: number;
  readonly what: string;
}

/** What neighbouring clusters hold, by ranges: one entry a table, however large it is, or a run of small ones. */
export class ClusterRanges {
  /** In order and apart from each other, unless `isSorted` is false. */
  private ranges: ClusterRange[] = [];
  private isSorted = true;
  private readonly overlap: (one: ClusterRange, other: ClusterRange) => void;

  /** @param overlap told of ranges that share clusters: those are known by the range that begins first */
  constructor(overlap: (one: ClusterRange, other: ClusterRange) => void = () => {}) {
    this.overlap = overlap;
  }

  add(first: number, end: number, what: string): void {
    if (first >= end) return;
    const last = this.ranges.at(-1);
    if (last?.end === first && last.what === what) this.ranges[this.ranges.length - 1] = { ...last, end };
    else this.ranges.push({ first, end, what });
    this.isSorted = false;
  }

  /** What the cluster is part of, if anything. */
  find(cluster: number): string | undefined {
    this.sort();
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.ranges[middle]?.end ?? 0) <= cluster) low = middle + 1;
      else high = middle;
    }
    const range = this.ranges[low];
    return range !== undefined && range.first <= cluster ? range.what : undefined;
  }

  remove(first: number, end: number): void {
    this.ranges = this.ranges.flatMap((range) => {
      if (range.end <= first || range.first >= end) return [range];
      const kept = [
        { ...range, end: first },
        { ...range, first: end },
      ];
      return kept.filter((part) => part.first < part.end);
    });
  }

  /** Makes sure that overlaps have been told. */
  sort(): void {
    if (this.isSorted) return;
    this.isSorted = true;
    this.ranges.sort((one, other) => one.first - other.first);
    const apart: ClusterRange[] = [];
    let before: ClusterRange | undefined;
    for (const range of this.ranges) {
      if (before === undefined || range.first >= before.end) apart.push(range);
      else {
        this.overlap(before, range);
        if (range.end <= before.end) continue;
        apart.push({ ...range, first: before.end });
      }
      before = apart.at(-1);
    }
    this.ranges = apart;
  }
}
