import type { CheckResult } from '../../../../src/block/driver.ts';

const MESSAGES_MAX = 200;

/** What a check found so far. */
export class Findings implements CheckResult {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;
  imageEndOffset = 0;
  totalClusters = 0;
  allocatedClusters = 0;
  fragmentedClusters = 0;
  compressedClusters = 0;
  readonly messages: string[] = [];
  private left = 0;

  corruption(message: string, fixed = false): void {
    this.corruptions += 1;
    if (fixed) this.corruptionsFixed += 1;
    this.note(fixed ? `Repaired: ${message}` : message);
  }

  leak(message: string, fixed = false): void {
    this.leaks += 1;
    if (fixed) this.leaksFixed += 1;
    this.note(fixed ? `Repaired: ${message}` : message);
  }

  error(message: string): void {
    this.checkErrors += 1;
    this.note(message);
  }

  private note(message: string): void {
    if (this.messages.length < MESSAGES_MAX) {
      this.messages.push(message);
      return;
    }
    this.left += 1;
    this.messages[MESSAGES_MAX] = `${this.left} more findings`;
  }
}
