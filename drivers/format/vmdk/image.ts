import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import type { ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import { requireShrink } from '../../../src/block/refuse.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import type { DiskExtent, GrainClaim } from './disk-extent.ts';
import type { ImageFacts } from './info.ts';
import { describe } from './info.ts';
import type { Need } from './need.ts';
import { SECTOR } from './layout.ts';
import { obstacleToLength, planDescriptor, refuseResize } from './resize.ts';
import type { DescriptorPlace } from './resize.ts';
import type { WriteGate } from './write-gate.ts';

interface Piece {
  /** Bytes of the disk. */
  readonly start: number;
  readonly end: number;
  readonly extent: DiskExtent;
}

export interface ImageParts {
  readonly subject: string;
  /** Undefined for an extent that is shown alone. */
  readonly descriptor: DescriptorPlace | undefined;
  readonly extents: readonly DiskExtent[];
  readonly need: Need;
  readonly facts: ImageFacts;
  /** Why the image can't be written; undefined where it can. */
  readonly obstacle: string | undefined;
  readonly readOnly: boolean;
  readonly gate: WriteGate;
  readonly caches: () => CacheCounters[];
}

/** An open VMDK: extents one after the other. Finds the one that a request falls into and cuts the request to it. */
export class VmdkImage implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  size: number;
  readOnly: boolean;
  /** Flat extents may be holes in their files. */
  readonly recurseStatus: boolean;
  /** Left out when no extent has anything to say: the core then zeroes and discards in the files, in large pieces. */
  readonly tryZero?: (offset: number, length: number, mayUnmap: boolean) => number | false;
  readonly tryDiscard?: (offset: number, length: number) => number | false;
  extents: readonly DiskExtent[];
  private pieces: readonly Piece[];
  private readonly parts: ImageParts;
  private last: Piece;

  constructor(parts: ImageParts) {
    this.parts = parts;
    this.extents = parts.extents;
    this.readOnly = parts.readOnly;
    this.pieces = lineUp(parts.extents);
    this.last = this.pieces[0] ?? { start: 0, end: 0, extent: NOTHING };
    this.size = this.pieces.at(-1)?.end ?? 0;
    this.recurseStatus = parts.extents.some((extent) => extent.unit === 1);
    this.limits = limits({
      allocationUnit: Math.max(1, ...new Set(parts.extents.map((extent) => extent.unit))),
      sizeUnit: SECTOR,
    });
    if (parts.extents.every((extent) => extent.unit === 1)) return;
    this.tryZero = (offset, length, mayUnmap) => {
      const { start, end, extent } = this.pieceAt(offset);
      return extent.tryZero(offset - start, Math.min(length, end - offset), mayUnmap);
    };
    this.tryDiscard = (offset, length) => {
      const { start, end, extent } = this.pieceAt(offset);
      return extent.tryDiscard(offset - start, Math.min(length, end - offset));
    };
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { start, end, extent } = this.pieceAt(offset);
    return extent.tryMap(offset - start, Math.min(max, end - offset), out);
  }

  load(): Promise<void> {
    return this.parts.need.load();
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { start, end, extent } = this.pieceAt(offset);
    if (!extent.tryAllocate(offset - start, Math.min(length, end - offset), out)) return false;
    out.start += start;
    return true;
  }

  commit(place: Placement): void {
    (place.token as GrainClaim | undefined)?.commit();
  }

  abort(place: Placement): void {
    (place.token as GrainClaim | undefined)?.abort();
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const { start, end, extent } = this.pieceAt(offset + at);
      const step = Math.min(bytes.length - at, end - offset - at);
      await extent.readOpaque?.(bytes.subarray(at, at + step), offset + at - start);
      at += step;
    }
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { start, end, extent } = this.pieceAt(offset);
    if (offset + length > end) return false;
    return extent.tryReadOpaque?.(bytes, at, length, offset - start) ?? false;
  }

  async flush(): Promise<void> {
    await inOrder(this.extents, (extent) => extent.flush());
  }

  async close(): Promise<void> {
    await inOrder(this.extents, (extent) => extent.close());
  }

  /** To read-only: everything is left as at close. To writing: what that takes is read now. */
  async reopen(common: CommonOptions): Promise<PermissionChange> {
    const { obstacle, gate } = this.parts;
    const abort = (): void => {};
    if (common.readOnly) {
      await inOrder(this.extents, (extent) => extent.settle());
      const commit = (): void => {
        gate.open = false;
      };
      return { commit, abort };
    }
    if (obstacle !== undefined && !common.autoReadOnly) throw new BlockError('EROFS', obstacle);
    const ready = obstacle === undefined ? await prepareAll(this.extents) : [];
    const commit = (): void => {
      this.readOnly = obstacle !== undefined;
      for (const install of ready) install();
    };
    return { commit, abort };
  }

  caches(): CacheCounters[] {
    return this.parts.caches();
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    const { subject, descriptor, gate, need, facts } = this.parts;
    const extent = this.extents.at(-1);
    if (size % SECTOR !== 0) refuseResize(subject, size, 'the size must be a multiple of 512', 'EINVAL');
    if (extent === undefined || size === this.size) return;
    requireShrink(subject, this.size, size, shrink);
    const length = extent.length + size - this.size;
    const why = obstacleToLength(extent, length, facts.createType);
    if (why !== undefined) refuseResize(subject, size, why);
    const last = { index: this.extents.length - 1, sectors: length / SECTOR, total: size / SECTOR };
    while (!gate.tryPass()) await need.load();
    await this.flush();
    const text = descriptor && (await planDescriptor(descriptor, last, subject));
    if (size < this.size) await text?.write();
    const next = await extent.resize?.(length);
    if (size > this.size) await text?.write();
    this.extents = [...this.extents.slice(0, -1), next ?? extent];
    this.pieces = lineUp(this.extents);
    this.last = this.pieces[0] ?? this.last;
    this.size = size;
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(describe(this.parts.facts, this.extents));
  }

  private pieceAt(offset: number): Piece {
    const { last } = this;
    if (offset >= last.start && offset < last.end) return last;
    let low = 0;
    let high = this.pieces.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.pieces[middle]?.start ?? Infinity) <= offset) low = middle;
      else high = middle - 1;
    }
    this.last = this.pieces[low] ?? last;
    return this.last;
  }
}

async function prepareAll(extents: readonly DiskExtent[]): Promise<(() => void)[]> {
  const ready: (() => void)[] = [];
  for (const extent of extents) if (extent.canWrite) ready.push(await extent.prepareWriting());
  return ready;
}

/** Everything is tried even when something fails; rejects with the first error. */
async function inOrder(
  extents: readonly DiskExtent[],
  run: (extent: DiskExtent) => Promise<void>,
): Promise<void> {
  const errors: unknown[] = [];
  for (const extent of extents) await run(extent).catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}

function lineUp(extents: readonly DiskExtent[]): Piece[] {
  const pieces: Piece[] = [];
  let start = 0;
  for (const extent of extents) {
    if (extent.length > 0) pieces.push({ start, end: start + extent.length, extent });
    start += extent.length;
  }
  return pieces;
}

/** Stands in for the extents of a disk of no bytes: nobody asks it. */
const NOTHING: DiskExtent = {
  length: 0,
  unit: 1,
  canWrite: false,
  prepareWriting: () => Promise.resolve(() => {}),
  settle: () => Promise.resolve(),
  description: { filename: '', format: 'ZERO' },
  tryMap: (_offset, _max, out) => out.setEof(),
  tryAllocate: () => false,
  tryZero: () => 0,
  tryDiscard: (_offset, length) => length,
  flush: () => Promise.resolve(),
  close: () => Promise.resolve(),
};
