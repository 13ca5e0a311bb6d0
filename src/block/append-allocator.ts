import type { Child } from './child.ts';
import type { Placement } from './extent.ts';
import { endOfPlaces } from './table-survey.ts';
import type { Survey } from './table-survey.ts';
import { alignUp } from '../util/sizes.ts';

/** The file grows by at least this much at a time; what stays unused is cut off at close. */
const GROWTH = 16 * 1024 * 1024;

/**
 * Space for formats that only grow: at the end of the file, and what aborted requests gave back.
 *
 *     | tables and data | given out, being filled | grown ahead, reads as zeroes |
 *                                             next ^                    file.size ^
 *
 * Nothing is given out beyond the end of the file: a place is whole from the start, and growing never meets a write
 * past the end. Before the file grows for the first time the tables are looked through: nothing that they name may lie there.
 */
export class AppendAllocator {
  readonly unit: number;
  private readonly file: Child;
  private readonly base: number;
  private survey: Survey | undefined;
  private next: number;
  private readonly holes: { offset: number; length: number }[] = [];
  private wanted = 0;
  private growing: Promise<void> | undefined = undefined;
  private grown = false;

  /** @param base offset in the file that places are whole units away from */
  constructor(survey: Survey, base: number, unit: number) {
    const { file } = survey;
    this.file = file;
    this.base = base;
    this.survey = survey;
    this.unit = unit;
    this.next = base + alignUp(Math.max(0, file.size - base), unit);
  }

  /** Names a place of at most `length` bytes (whole units): sets child, offset, length, zeroed. False: load. */
  tryTake(length: number, out: Placement): boolean {
    const hole = this.holes.pop();
    out.child = this.file;
    if (hole === undefined) {
      out.offset = this.tryTakeFresh(length);
      out.length = length;
      out.zeroed = true;
      return out.offset >= 0;
    }
    out.offset = hole.offset;
    out.length = Math.min(length, hole.length);
    out.zeroed = false;
    if (hole.length > length) this.holes.push({ offset: hole.offset + length, length: hole.length - length });
    return true;
  }

  /** A place in one piece that reads as zeroes; -1: load. */
  tryTakeFresh(length: number): number {
    const offset = this.next;
    if (offset + length > this.file.size) {
      this.wanted = Math.max(this.wanted, length);
      return -1;
    }
    this.next += length;
    return offset;
  }

  /** A place that was not used after all, though something may have been written there. */
  giveBack(offset: number, length: number): void {
    this.holes.push({ offset, length });
  }

  /** Grows the file where a try lacked room. */
  async load(): Promise<void> {
    if (this.wanted === 0) return;
    this.growing ??= this.grow().finally(() => {
      this.growing = undefined;
    });
    await this.growing;
  }

  /** Cuts off what was grown ahead and not used. Only with nothing under way. */
  async trim(): Promise<void> {
    if (this.grown && this.file.size > this.next) await this.file.resize(this.next, true);
  }

  private async grow(): Promise<void> {
    const { wanted, survey, base, unit } = this;
    this.wanted = 0;
    if (survey !== undefined) {
      const end = await endOfPlaces(survey);
      this.next = Math.max(this.next, base + alignUp(Math.max(0, end - base), unit));
      this.survey = undefined;
    }
    const end = this.next + wanted;
    if (end <= this.file.size) return;
    this.grown = true;
    await this.file.resize(end + alignUp(GROWTH, this.unit));
  }
}
