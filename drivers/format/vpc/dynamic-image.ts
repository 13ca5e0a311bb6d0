import { NO_PLACE } from './block-table.ts';
import { VpcImage } from './image.ts';

/** A dynamic image: blocks that are not needed any more go back to reading as zeroes. */
export class DynamicImage extends VpcImage {
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    return this.eachWhole(offset, length, (block, place) => {
      if (place === NO_PLACE) return true;
      if (mayUnmap) this.free(block, place);
      return mayUnmap;
    });
  }

  tryDiscard(offset: number, length: number): number | false {
    return this.eachWhole(offset, length, (block, place) => {
      if (place !== NO_PLACE) this.free(block, place);
      return true;
    });
  }

  /** Visits the whole blocks from `offset` on while `visit` handles them; the bytes handled. */
  private eachWhole(
    offset: number,
    length: number,
    visit: (block: number, place: number) => boolean,
  ): number | false {
    const { allocationUnit: unit } = this.limits;
    if (offset % unit !== 0) return 0;
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const next = Math.min(at + unit, this.size);
      const block = at / unit;
      const place = this.table.place(block);
      if (place === undefined) return at > offset ? at - offset : false;
      if (next > end || !visit(block, place)) break;
      at = next;
    }
    return at - offset;
  }
}
