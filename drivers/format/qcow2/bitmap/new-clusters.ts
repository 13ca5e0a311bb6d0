import type { Writer } from '../build.ts';
import type { Image } from '../image.ts';

interface Run {
  readonly first: number;
  count: number;
}

/** Clusters taken for tables that nothing names yet: kept by whoever publishes them, or all given back. */
export class NewClusters {
  private readonly image: Image;
  private readonly writer: Writer;
  private readonly runs: Run[] = [];

  constructor(image: Image, writer: Writer) {
    this.image = image;
    this.writer = writer;
  }

  /** Takes 1 to `want` clusters in a row. */
  async take(want: number): Promise<Run> {
    const run = await this.takeSome(want);
    this.runs.push(run);
    return run;
  }

  /** Takes clusters in a row that hold `length` bytes; the first one's byte offset. */
  async takeTable(length: number): Promise<number> {
    const { clusterSize, blockEntries } = this.image.geometry;
    const count = Math.max(1, Math.ceil(length / clusterSize));
    const hasBlockBetween = count >= blockEntries - 1;
    const first = hasBlockBetween ? await this.writer.growth.reserve(count) : await this.takeRow(count);
    this.runs.push({ first, count });
    return first * clusterSize;
  }

  /** Writes whole clusters at a place that was taken. */
  async write(bytes: Uint8Array, offset: number): Promise<void> {
    const { clusterSize } = this.image.geometry;
    const whole = Buffer.alloc(Math.ceil(bytes.length / clusterSize) * clusterSize);
    whole.set(bytes);
    await this.image.file.write(whole, offset);
  }

  /** Nothing names them, nor will. */
  async giveBack(): Promise<void> {
    for (const run of this.runs.splice(0)) await this.release(run);
  }

  private async takeRow(count: number): Promise<number> {
    const spare: Run[] = [];
    let run = await this.takeSome(count);
    while (run.count < count) {
      const next = await this.takeSome(count - run.count);
      if (next.first === run.first + run.count) run.count += next.count;
      else {
        spare.push(run);
        run = next;
      }
    }
    for (const left of spare) await this.release(left);
    return run.first;
  }

  private async takeSome(want: number): Promise<Run> {
    const { allocator } = this.writer;
    for (;;) {
      const first = allocator.tryTake(want);
      if (first !== false) return { first, count: allocator.taken };
      await this.image.need.load();
    }
  }

  private async release({ first, count }: Run): Promise<void> {
    const { allocator, refcounts } = this.writer;
    allocator.mayBeWritten((first + count) * this.image.geometry.clusterSize);
    for (let done = 0; done < count;) {
      done += allocator.giveBack(first + done, count - done);
      if (done < count) await refcounts.loadPage(first + done);
    }
  }
}
