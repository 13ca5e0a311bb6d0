import { eachWholeUnit } from '../../../src/block/whole-units.ts';
import { State } from './bat.ts';
import { VhdxImage } from './image.ts';

/** Dynamic and differencing images: whole blocks can become zero by their state alone. */
export class SparseVhdxImage extends VhdxImage {
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    return this.eachWhole(offset, length, (block) => {
      const { state } = this.bat;
      if (state >= State.full && !mayUnmap) return false;
      if (state >= State.full || (state === State.notPresent && this.hasParent)) this.free(block);
      return true;
    });
  }

  tryDiscard(offset: number, length: number): number | false {
    return this.eachWhole(offset, length, (block) => {
      if (this.bat.state >= State.full) this.free(block);
      return true;
    });
  }

  private eachWhole(offset: number, length: number, visit: (block: number) => boolean): number | false {
    const disk = { unit: this.limits.allocationUnit, size: this.size };
    return eachWholeUnit({ offset, length }, disk, (block) => {
      if (!this.bat.read(block) || !this.mayBegin()) return 'load';
      return visit(block) ? 'done' : 'stop';
    });
  }
}
