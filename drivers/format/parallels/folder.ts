import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Placement } from '../../../src/block/extent.ts';
import { BlockStatus, Extent } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import { alignDown, alignUp } from '../../../src/util/sizes.ts';

/** Images of one range of the disk. The first is written to; what it does not have is looked up in the next. */
export interface Storage {
  /** Bytes of the disk, the end not included. */
  readonly start: number;
  readonly end: number;
  readonly images: readonly Child[];
}

/**
 * A .hdd folder: the disk is cut into storages, each a chain of images that are nodes of their own. This node asks
 * them what they have; a write goes to the first image of its storage in whole clusters, and that image finds the place.
 */
export class ParallelsFolder implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = true;
  readonly limits: Limits;
  readonly size: number;
  private readonly subject: string;
  private readonly storages: readonly Storage[];
  private readonly unit: number;
  private readonly found = new Extent();
  private wanted: { child: Child; offset: number; length: number } | undefined = undefined;
  private last: Storage | undefined = undefined;

  /** @param unit bytes of a cluster, of which every storage holds whole ones (the last storage excepted) */
  constructor(storages: readonly Storage[], unit: number, subject: string) {
    this.storages = storages;
    this.unit = unit;
    this.subject = subject;
    this.size = storages.at(-1)?.end ?? 0;
    this.limits = limits({ allocationUnit: unit, sizeUnit: 512 });
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const storage = this.storageAt(offset);
    const at = offset - storage.start;
    let length = Math.min(max, storage.end - offset);
    const { found } = this;
    for (const [depth, child] of storage.images.entries()) {
      if (!child.tryStatus(at, length, found)) {
        this.wanted = { child, offset: at, length };
        return false;
      }
      if (found.kind === 'eof') continue;
      length = Math.min(length, found.length);
      if (found.kind === 'zero') return out.setZero(length);
      if (found.kind === 'unallocated') continue;
      return out.setData(child, at, length, depth === 0 && found.kind === 'data');
    }
    return out.setUnallocated(length);
  }

  async load(): Promise<void> {
    const { wanted } = this;
    this.wanted = undefined;
    if (wanted !== undefined) await wanted.child.status(wanted.offset, wanted.length, new BlockStatus());
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const storage = this.storageAt(offset);
    const [top] = storage.images;
    if (top === undefined)
      throw new BlockError('EIO', `Cannot write to "${this.subject}": a storage has no image`);
    const at = offset - storage.start;
    const start = alignDown(at, this.unit);
    const end = Math.min(alignUp(at + length, this.unit), storage.end - storage.start);
    out.child = top;
    out.start = storage.start + start;
    out.offset = start;
    out.length = end - start;
    out.zeroed = false;
    return true;
  }

  /** Nothing to do: the image below points at its place itself, once it is filled. */
  commit(): void {}

  abort(): void {}

  async flush(): Promise<void> {
    await Promise.all(this.storages.flatMap(({ images }) => images.slice(0, 1)).map((top) => top.flush()));
  }

  /** Descriptor and images would have to change together, and no order of writes makes that safe. */
  resize(size: number): Promise<void> {
    const why = 'the size of a .hdd folder stands in its descriptor and in each of its images';
    const wanted = 'convert it into an image of format "parallels", and resize that';
    return Promise.reject(
      new BlockError('ENOTSUP', `Cannot resize "${this.subject}" to ${size} bytes: ${why}; ${wanted}`),
    );
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  info(): Promise<ImageInfo> {
    const images = this.storages.map((storage) => ({
      start: storage.start,
      end: storage.end,
      files: storage.images.map(({ node }) => node.children.get('file')?.node.filename ?? node.name),
    }));
    return Promise.resolve({ clusterSize: this.unit, formatSpecific: { storages: images } });
  }

  private storageAt(offset: number): Storage {
    const { last } = this;
    if (last !== undefined && offset >= last.start && offset < last.end) return last;
    const storage = this.storages.find(({ end }) => offset < end);
    if (storage === undefined)
      throw new BlockError('EIO', `Cannot use "${this.subject}": offset ${offset} is past its end`);
    this.last = storage;
    return storage;
  }
}
