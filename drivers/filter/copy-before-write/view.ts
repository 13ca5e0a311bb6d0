import type { SnapshotView } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Child } from '../../../src/block/child.ts';
import { Extent } from '../../../src/block/extent.ts';
import { ClusterState } from './cluster-states.ts';
import type { Copier } from './copier.ts';

/** The disk as it was: from the target what was written to since, from the source the rest. */
export class View implements SnapshotView {
  private readonly copier: Copier;
  private readonly extent = new Extent();

  constructor(copier: Copier) {
    this.copier = copier;
  }

  get size(): number {
    return this.copier.size;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { copier } = this;
    const end = offset + length;
    if (copier.broken !== undefined || !copier.locks.isFreeOfExclusive(offset, length)) return false;
    for (let from = offset; from < end;) {
      const run = copier.run(from, end);
      const child = this.childAt(from);
      if (child === undefined || !child.tryRead(bytes, at + from - offset, run - from, from)) return false;
      from = run;
    }
    return true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    const { copier } = this;
    const end = offset + bytes.length;
    this.refuseBroken();
    const lock = await copier.locks.acquire(offset, bytes.length, false);
    try {
      for (let from = offset; from < end;) {
        const run = copier.run(from, end);
        const child = this.childAt(from);
        if (child === undefined) this.refuse(this.copier.lacks);
        await child.read(bytes.subarray(from - offset, run - offset), from);
        from = run;
      }
    } finally {
      lock.release();
    }
    this.refuseBroken();
  }

  /**
   * Zeroes are only what the source knows to be zero in this very turn: an answer about the view stays true for ever,
   * one about the source does not.
   */
  tryStatus(offset: number, max: number, out: Extent): boolean {
    const { copier } = this;
    if (offset >= copier.size) return out.setEof();
    const length = copier.run(offset, Math.min(offset + max, copier.size)) - offset;
    const child = this.childAt(offset);
    if (child !== undefined) {
      const known = this.knownZero(child, offset, length);
      if (known !== undefined)
        return known.zero ? out.setZero(known.length) : this.data(out, offset, known.length);
    }
    return this.data(out, offset, length);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.copier.drop(offset, length);
  }

  private data(out: Extent, offset: number, length: number): true {
    return out.setData(undefined, offset, length, false);
  }

  private knownZero(
    door: Child,
    offset: number,
    length: number,
  ): { zero: boolean; length: number } | undefined {
    const { extent } = this;
    let child = door;
    let at = offset;
    let max = length;
    for (;;) {
      if (at >= child.size || !child.tryStatus(at, max, extent)) return undefined;
      max = Math.min(max, extent.length);
      if (extent.kind === 'zero') return { zero: true, length: max };
      if (extent.kind === 'unallocated') return { zero: child.node.cow === undefined, length: max };
      if (extent.kind !== 'data' || extent.child === undefined) return { zero: false, length: max };
      if (child.node.impl.family === 'mapping' && child.node.impl.recurseStatus !== true)
        return { zero: false, length: max };
      child = extent.child;
      at = extent.offset;
    }
  }

  private childAt(offset: number): Child | undefined {
    const state = this.copier.stateAt(offset);
    if (state === ClusterState.dropped) return undefined;
    return state === ClusterState.target ? this.copier.target : this.copier.source;
  }

  private refuseBroken(): void {
    const { broken } = this.copier;
    if (broken !== undefined) this.refuse(broken.message);
  }

  private refuse(why: string): never {
    throw new BlockError('EACCES', `Cannot read the view of "${this.copier.source.node.name}": ${why}`);
  }
}
