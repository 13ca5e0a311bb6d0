import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import type { DiskExtent, ExtentDescription } from './disk-extent.ts';
import type { WriteGate } from './write-gate.ts';

export interface FlatParts {
  readonly file: Child;
  /** Bytes into the file. */
  readonly offset: number;
  readonly length: number;
  readonly gate: WriteGate;
  /** False for RDONLY extents. */
  readonly canWrite: boolean;
  /** It is a file, and nothing else of the disk is in it. */
  readonly ownsEnd: boolean;
  readonly description: ExtentDescription;
}

/** Bytes of a file or device as they are. */
export class FlatExtent implements DiskExtent {
  readonly length: number;
  readonly unit = 1;
  readonly description: ExtentDescription;
  readonly resize?: (length: number) => Promise<DiskExtent>;
  private readonly parts: FlatParts;

  constructor(parts: FlatParts) {
    this.parts = parts;
    if (parts.ownsEnd && parts.canWrite) this.resize = (length) => this.changeLength(length);
    this.length = parts.length;
    this.description = parts.description;
  }

  get canWrite(): boolean {
    return this.parts.canWrite;
  }

  prepareWriting(): Promise<() => void> {
    return Promise.resolve(() => {});
  }

  settle(): Promise<void> {
    return this.flush();
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { file, offset: base, canWrite, gate } = this.parts;
    return out.setData(file, base + offset, max, canWrite && gate.open);
  }

  /** Everything has its place already: only the first write of all comes here, to have the content ID changed. */
  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { file, offset: base, gate } = this.parts;
    if (!this.parts.canWrite) throw readOnlyExtent(this.description);
    if (!gate.tryPass()) return false;
    out.child = file;
    out.offset = base + offset;
    out.start = offset;
    out.length = length;
    out.zeroed = false;
    out.token = undefined;
    return true;
  }

  /** Nothing by metadata: the core writes zeroes into the file. */
  tryZero(): number | false {
    return 0;
  }

  tryDiscard(_offset: number, length: number): number | false {
    return length;
  }

  private async changeLength(length: number): Promise<FlatExtent> {
    const { file, offset } = this.parts;
    const [end, wanted, size] = [offset + this.length, offset + length, file.size];
    if (wanted > end && size > end) await file.writeZeroes(end, Math.min(size, wanted) - end);
    if (wanted > size || size === end) await file.resize(wanted, wanted < size);
    await file.flush();
    return new FlatExtent({ ...this.parts, length });
  }

  flush(): Promise<void> {
    return this.parts.canWrite ? this.parts.file.flush() : Promise.resolve();
  }

  close(): Promise<void> {
    return this.flush();
  }
}

export function readOnlyExtent(description: ExtentDescription): BlockError {
  const name = description.filename === '' ? description.format : description.filename;
  return new BlockError(
    'EROFS',
    `Cannot write to extent "${name}": it is read-only, must be RW in the descriptor`,
  );
}
