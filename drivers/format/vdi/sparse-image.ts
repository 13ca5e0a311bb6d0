import { eachWholeUnit } from '../../../src/block/whole-units.ts';
import { Entry, isOverlay } from './header.ts';
import { VdiImage } from './image.ts';

/** Dynamic and differencing images: blocks come and go. */
export class SparseVdiImage extends VdiImage {
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    return this.eachWhole(offset, length, (block, entry) => {
      if (entry < Entry.zero && !mayUnmap) return false;
      if (entry < Entry.zero || (entry === Entry.unallocated && isOverlay(this.header)))
        this.setZero(block, entry);
      return true;
    });
  }

  tryDiscard(offset: number, length: number): number | false {
    return this.eachWhole(offset, length, (block, entry) => {
      if (entry < Entry.zero) this.setZero(block, entry);
      return true;
    });
  }

  /** First the size, then the blocks that are behind it: their places are free after the next write-back. */
  protected override async shrinkTo(size: number): Promise<void> {
    const { header, map } = this;
    await this.writeHeader({ ...header, disk_size: size });
    header.disk_size = size;
    this.size = size;
    for (let block = Math.ceil(size / header.block_size); block < map.blocks; block += 1) {
      let entry = map.entry(block);
      for (; entry === undefined; entry = map.entry(block)) {
        if (map.pages.isFull) await this.writeBack();
        await map.pages.load();
      }
      if (entry < Entry.zero) this.setZero(block, entry);
    }
    await this.writeBack();
  }

  private setZero(block: number, entry: number): void {
    this.map.set(block, Entry.zero);
    if (entry < Entry.zero) this.places.release(entry);
  }

  private eachWhole(
    offset: number,
    length: number,
    visit: (block: number, entry: number) => boolean,
  ): number | false {
    const disk = { unit: this.header.block_size, size: this.size };
    return eachWholeUnit({ offset, length }, disk, (block) => {
      const entry = this.map.entry(block);
      if (entry === undefined || !this.mayBegin()) return 'load';
      return visit(block, entry) ? 'done' : 'stop';
    });
  }
}
