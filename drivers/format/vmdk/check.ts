import type { CheckOptions, CheckResult, OpenDriver } from '../../../src/block/driver.ts';
import { encodeEntries } from './entries.ts';
import { FIRST_PLACE } from './geometry.ts';
import { placeOf, readDirectory } from './grain-tables.ts';
import { VmdkImage } from './image.ts';
import { readAt } from './read-header.ts';
import { SparseExtent } from './sparse-extent.ts';
import type { GrainTable } from './table-cache.ts';

/** Grains whose places are compared with each other: their numbers take 64 MiB. */
const MAX_COMPARED = 16 * 1024 * 1024;
const MAX_MESSAGES = 100;

/**
 * Every table of every sparse extent: grains lie in the file and apart, the redundant tables say the same as the first.
 * Repairing `all` writes the redundant tables again.
 */
export async function checkVmdk(open: OpenDriver, options: CheckOptions): Promise<CheckResult> {
  if (!(open instanceof VmdkImage)) throw new TypeError('not an open VMDK image');
  const result = new Findings();
  for (const extent of open.extents) {
    if (extent instanceof SparseExtent) await new ExtentCheck(extent, options, result).run();
  }
  if (result.corruptionsFixed > 0) await open.flush();
  return result;
}

class Findings implements CheckResult {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;
  totalClusters = 0;
  allocatedClusters = 0;
  fragmentedClusters = 0;
  compressedClusters = 0;
  imageEndOffset = 0;
  readonly messages: string[] = [];

  say(message: string): void {
    if (this.messages.length < MAX_MESSAGES) this.messages.push(message);
    else if (this.messages.length === MAX_MESSAGES) this.messages.push('there is more of it');
  }
}

class ExtentCheck {
  private readonly extent: SparseExtent;
  private readonly options: CheckOptions;
  private readonly result: Findings;
  private places = new Uint32Array(4096);
  private count = 0;
  private last = 0;
  private redundant: Uint32Array | undefined = undefined;

  constructor(extent: SparseExtent, options: CheckOptions, result: Findings) {
    this.extent = extent;
    this.options = options;
    this.result = result;
  }

  async run(): Promise<void> {
    const { tables, geometry, file } = this.extent.parts;
    const { length } = this.extent;
    const { redundantOffset } = geometry;
    if (redundantOffset !== undefined)
      this.redundant = tables.redundant ?? (await readDirectory(file, geometry, redundantOffset));
    this.result.totalClusters += Math.ceil(length / geometry.grainSize);
    const used = Math.ceil(length / (geometry.grainSize * geometry.tableEntries));
    for (let index = 0; index < used; index += 1) {
      if (!tables.isHole(index)) await this.checkTable(index);
      if (index % 64 === 0) this.options.progress?.(index, used);
    }
    this.compare();
  }

  private async checkTable(index: number): Promise<void> {
    let table: GrainTable;
    try {
      table = await this.load(index);
    } catch (error) {
      this.corrupt(error instanceof Error ? error.message : String(error));
      return;
    }
    for (const [slot, entry] of table.entries.entries()) {
      if (entry === 0 || (entry === 1 && this.extent.parts.geometry.zeroedGrains)) continue;
      this.checkGrain(index * table.entries.length + slot, entry);
    }
    await this.checkTwin(table);
  }

  private checkGrain(grain: number, entry: number): void {
    const { geometry, file, description } = this.extent.parts;
    const place = placeOf(geometry.grainPlace, entry);
    const used = Math.min(geometry.grainSize, this.extent.length - grain * geometry.grainSize);
    if (used <= 0) return;
    if (entry < FIRST_PLACE || place < geometry.reserved || place >= file.size) {
      const wanted = `must be from byte ${geometry.reserved} to ${file.size}`;
      this.corrupt(`grain ${grain} of "${description.filename}" is at byte ${place}, ${wanted}`);
      return;
    }
    if (!geometry.compressed && place + used > file.size)
      this.corrupt(
        `grain ${grain} of "${description.filename}" is cut off: it has ${file.size - place} of ${used} bytes`,
      );
    this.result.allocatedClusters += 1;
    if (geometry.compressed) this.result.compressedClusters += 1;
    else if (this.last > 0 && place !== this.last + geometry.grainSize) this.result.fragmentedClusters += 1;
    this.last = place;
    this.result.imageEndOffset = Math.max(this.result.imageEndOffset, place + geometry.grainSize);
    if (this.count < MAX_COMPARED) this.remember(entry);
  }

  private async checkTwin(table: GrainTable): Promise<void> {
    const { tables, file, description } = this.extent.parts;
    const { redundant } = this;
    const { writer } = this.extent;
    if (redundant === undefined || table.dirty) return;
    const stored = await readAt(file, tables.tablePlace(redundant, table.index), table.entries.length * 4);
    if (stored.equals(encodeEntries(table.entries, stored.length))) return;
    const twin = `redundant grain table ${table.index} of "${description.filename}"`;
    if (this.options.repair !== 'all' || writer === undefined) {
      this.corrupt(`the ${twin} is not the same as the first`);
      return;
    }
    while (!writer.tryRewrite(table)) await this.extent.parts.need.load();
    this.result.corruptionsFixed += 1;
    this.result.say(`the ${twin} was not the same as the first: written again`);
  }

  private async load(index: number): Promise<GrainTable> {
    const { tables, need } = this.extent.parts;
    let table = tables.tryGet(index);
    while (table === undefined) {
      await need.load();
      table = tables.tryGet(index);
    }
    return table;
  }

  private remember(entry: number): void {
    if (this.count === this.places.length) {
      const larger = new Uint32Array(this.places.length * 2);
      larger.set(this.places);
      this.places = larger;
    }
    this.places[this.count] = entry;
    this.count += 1;
  }

  /** Neighbours in the file that are too close; compressed grains have no size here, only equal places tell. */
  private compare(): void {
    const { geometry, description } = this.extent.parts;
    const places = this.places.subarray(0, this.count).sort();
    const apart = geometry.compressed ? 1 : geometry.grainSize / geometry.grainPlace.scale;
    for (let index = 1; index < places.length; index += 1) {
      const entry = places[index] ?? 0;
      if (entry - (places[index - 1] ?? 0) >= apart) continue;
      const place = placeOf(geometry.grainPlace, entry);
      this.corrupt(`two grains of "${description.filename}" share byte ${place}`);
    }
    if (this.count >= MAX_COMPARED)
      this.result.say(`only ${MAX_COMPARED} grains were compared with each other`);
  }

  private corrupt(message: string): void {
    this.result.corruptions += 1;
    this.result.say(message);
  }
}
