import type { ExpectedRefcounts } from './expected-refcounts.ts';
import type { Findings } from './findings.ts';
import type { Image } from '../image.ts';
import { alignUp } from '../../../../src/util/sizes.ts';

/** Counts what tables name; what can't be named is a finding and not counted. */
export class References {
  readonly image: Image;
  expected: ExpectedRefcounts;
  readonly findings: Findings;
  private readonly end: number;

  constructor(image: Image, expected: ExpectedRefcounts, findings: Findings) {
    this.image = image;
    this.expected = expected;
    this.findings = findings;
    this.end = alignUp(image.file.size, image.geometry.clusterSize);
  }

  /** Whole clusters at an aligned place; true when they were counted. */
  table(offset: number, length: number, what: string): boolean {
    const { clusterSize } = this.image.geometry;
    if (!Number.isSafeInteger(offset) || offset % clusterSize !== 0) {
      this.findings.corruption(
        `${what} is at ${offset}, must be a multiple of the cluster size ${clusterSize}`,
      );
      return false;
    }
    return this.bytes(offset, length, what);
  }

  /** Every cluster that a range of bytes touches. */
  bytes(offset: number, length: number, what: string): boolean {
    const { clusterSize } = this.image.geometry;
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + length - 1) / clusterSize);
    if ((last + 1) * clusterSize > this.end) {
      this.findings.corruption(
        `${what} is at ${offset}, ${length} bytes long, but the file ends at ${this.image.file.size}`,
      );
      return false;
    }
    this.expected.add(first, last - first + 1);
    return true;
  }
}
