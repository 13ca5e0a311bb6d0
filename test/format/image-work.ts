/** An open qcow2 image and its model, changed together: content, size, dirty bitmaps and snapshots. */
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { applySnapshot, changeSnapshots } from '../../src/block/internal-snapshots.ts';
import type { Node } from '../../src/block/node.ts';
import { runActions } from '../../src/control/actions/action.ts';
import {
  addBitmap,
  clearBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from '../../src/control/actions/bitmap.ts';
import { alignDown, alignUp } from '../../src/util/sizes.ts';
import { exercise } from '../helpers/exercise.ts';
import type { Disk } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import type { Random } from '../helpers/random.ts';
import { ModelBitmap } from './bitmap-model.ts';
import type { ModelImage } from './bitmap-model.ts';

const MIB = 1024 * 1024;
const NODE = 'disk';
const LENGTH_MAX = 150_000;

/** What the format allows this image. */
export interface Allowed {
  readonly cluster: number;
  /** Bytes at the start; it may become half as large again. */
  readonly size: number;
  readonly bitmaps: boolean;
  readonly snapshots: boolean;
  readonly resizes: true | 'without snapshots';
  readonly shrinks: boolean;
}

export class ImageWork {
  readonly graph: Graph;
  readonly node: Node;
  readonly door: Child;
  private readonly model: ModelImage;
  private readonly random: Random;
  private readonly allowed: Allowed;

  private constructor(
    opened: { graph: Graph; node: Node; door: Child },
    given: { model: ModelImage; random: Random; allowed: Allowed },
  ) {
    this.graph = opened.graph;
    this.node = opened.node;
    this.door = opened.door;
    this.model = given.model;
    this.random = given.random;
    this.allowed = given.allowed;
  }

  /** To be closed by closing its graph. */
  static async open(
    image: string,
    given: { model: ModelImage; random: Random; allowed: Allowed },
  ): Promise<ImageWork> {
    const graph = new Graph({ drivers: DRIVERS });
    try {
      const node = await graph.openImage(image, 'qcow2', { 'node-name': NODE, discard: 'unmap' });
      const door = graph.attachRoot(node, { name: 'test', used: 15 });
      return new ImageWork({ graph, node, door }, given);
    } catch (error) {
      await graph.close();
      throw error;
    }
  }

  async step(): Promise<void> {
    const { bitmaps, snapshots } = this.allowed;
    const kind = this.random.below(20);
    if (kind < 8) await this.change();
    else if (kind === 8) await this.together();
    else if (kind < 11) await (bitmaps ? this.add() : this.change());
    else if (kind < 16) await (bitmaps ? this.alter() : this.change());
    else if (kind === 16) await this.resize();
    else if (kind === 17) await this.door.flush();
    else if (snapshots) await this.snapshot();
  }

  /** Many requests at once, which share clusters and tables. */
  private async together(): Promise<void> {
    const { allowed, model, random } = this;
    await exercise(this.disk(), model.disk, {
      random,
      operations: 30,
      concurrency: 6,
      maxLength: Math.min(model.disk.size, allowed.cluster + LENGTH_MAX),
      borders: [allowed.cluster, 4096],
    });
  }

  private disk(): Disk {
    const { model, door, random } = this;
    const disk = childDisk(door, random);
    return {
      ...disk,
      async write(bytes, offset) {
        await disk.write(bytes, offset);
        model.touched(offset, bytes.length);
      },
      async zero(offset, length, mayUnmap) {
        await disk.zero(offset, length, mayUnmap);
        model.touched(offset, length);
      },
      discard: async (offset, length) => {
        await door.discard(offset, length);
        const [start, end] = this.discarded(offset, length);
        model.touched(start, end - start);
      },
    };
  }

  private async change(): Promise<void> {
    const { random, model, door } = this;
    const { size } = model.disk;
    const offset = random.below(size);
    const length = random.between(1, Math.min(size - offset, LENGTH_MAX));
    const kind = random.below(4);
    if (kind < 2) {
      const bytes = random.softBytes(length);
      await door.write(bytes, offset);
      model.disk.write(bytes, offset);
      model.touched(offset, length);
    } else if (kind === 2) {
      await door.writeZeroes(offset, length, random.chance(0.5) ? ZeroFlag.mayUnmap : 0);
      model.disk.zero(offset, length);
      model.touched(offset, length);
    } else await this.discard(offset, length);
  }

  /** What it leaves is taken over from the disk. */
  private async discard(offset: number, length: number): Promise<void> {
    const { model, door } = this;
    const [start, end] = this.discarded(offset, length);
    await door.discard(offset, length);
    const bytes = Buffer.alloc(end - start);
    if (bytes.length > 0) await door.read(bytes, start);
    model.disk.write(bytes, start);
    model.touched(start, end - start);
  }

  /** A discard is one of whole units only. */
  private discarded(offset: number, length: number): [start: number, end: number] {
    const unit = this.node.limits.discardAlignment;
    const start = alignUp(offset, unit);
    const end = offset + length === this.model.disk.size ? offset + length : alignDown(offset + length, unit);
    return [start, Math.max(start, end)];
  }

  private async add(): Promise<void> {
    const { random, model } = this;
    const name = `b${random.below(6)}`;
    if (model.bitmaps.has(name)) return;
    const granularity = 2 ** random.between(9, 17);
    const disabled = random.chance(0.3);
    const given = { node: NODE, name, granularity, persistent: true, disabled };
    await runActions(this.graph, [addBitmap(this.graph, given)]);
    model.bitmaps.set(name, new ModelBitmap(granularity, !disabled));
  }

  private async alter(): Promise<void> {
    const { random, model, graph } = this;
    const names = [...model.bitmaps.keys()];
    if (names.length === 0) return;
    const name = random.pick(names);
    const bitmap = model.bitmaps.get(name);
    if (bitmap === undefined) return;
    const given = { node: NODE, name };
    const kind = random.below(8);
    if (kind === 0) {
      await runActions(graph, [removeBitmap(graph, given)]);
      model.bitmaps.delete(name);
    } else if (kind < 3) {
      await runActions(graph, [clearBitmap(graph, given)]);
      bitmap.granules.clear();
    } else if (kind < 6) {
      await runActions(graph, [enableBitmap(graph, given, !bitmap.enabled)]);
      bitmap.enabled = !bitmap.enabled;
    } else {
      const other = random.pick(names);
      await runActions(graph, [mergeBitmaps(graph, { node: NODE, target: name, bitmaps: [other] })]);
      const from = model.bitmaps.get(other);
      if (from !== undefined) bitmap.merge(from, model.disk.size);
    }
  }

  private async resize(): Promise<void> {
    const { model, random, allowed } = this;
    if (allowed.resizes !== true && model.snapshots.size > 0) return;
    const grows = !allowed.shrinks || random.chance(0.6);
    const size = alignUp(
      Math.max(allowed.size / 2, model.disk.size + (grows ? 1 : -1) * random.below(MIB)),
      512,
    );
    if (size > 1.5 * allowed.size) return;
    await this.door.resize(size, true);
    model.resize(size);
  }

  private async snapshot(): Promise<void> {
    const { model, random, graph, node } = this;
    const names = [...model.snapshots.keys()];
    const kind = names.length === 0 ? 0 : random.below(3);
    if (kind === 0 && names.length < 3) {
      const name = `s${random.below(1000)}`;
      if (names.includes(name)) return;
      await changeSnapshots(graph, node, (snapshots) => snapshots.create(name));
      model.snapshots.set(name, model.disk.clone());
    } else if (names.length > 0) {
      const name = random.pick(names);
      if (kind === 1) {
        await applySnapshot(graph, node, name);
        model.apply(name);
      } else {
        await changeSnapshots(graph, node, (snapshots) => snapshots.delete(name));
        model.snapshots.delete(name);
      }
    }
  }
}
