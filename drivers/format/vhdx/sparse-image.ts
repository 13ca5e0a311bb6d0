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

  /** Visits the whole blocks from `offset` on while `visit` handles them; the bytes handled. */
  private eachWhole(offset: number, length: number, visit: (block: number) => boolean): number | false {
    const { allocationUnit: unit } = this.limits;
    if (offset % unit !== 0) return 0;
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const next = Math.min(at + unit, this.size);
      if (next > end) break;
      if (!this.bat.read(at / unit) || !this.mayBegin()) return at > offset ? at - offset : false;
      if (!visit(at / unit)) break;
      at = next;
    }
    return at - offset;
  }
}
