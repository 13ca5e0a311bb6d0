import { eachWholeUnit } from '../../../src/block/whole-units.ts';
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

  private eachWhole(
    offset: number,
    length: number,
    visit: (block: number, place: number) => boolean,
  ): number | false {
    const disk = { unit: this.limits.allocationUnit, size: this.size };
    return eachWholeUnit({ offset, length }, disk, (block) => {
      const place = this.table.place(block);
      if (place === undefined) return 'load';
      return visit(block, place) ? 'done' : 'stop';
    });
  }
}
