/**
 * What an open image does that waits: preparing the file for writing, writing back, closing. One job at a time.
 *
 * Write-back: data, flush; then bitmaps and table through the log (log-writer.ts), which makes them atomic; then places
 * that the table no longer names are zeroed and may be used again.
 */
import type { Child } from '../../../src/block/child.ts';
import { ZeroFlag } from '../../../src/block/driver.ts';
import type { Places } from '../../../src/block/places.ts';
import type { TableChange } from '../../../src/block/table-pages.ts';
import { Serial } from '../../../src/util/serial.ts';
import type { BlockTable } from './bat.ts';
import { MIB } from './header.ts';
import { LogWriter } from './log-writer.ts';
import type { VhdxParts } from './parts.ts';

export class VhdxStore {
  /** The headers say that the file is being changed. */
  begun = false;
  private parts: VhdxParts;
  private readonly file: Child;
  private bat: BlockTable;
  private readonly places: Places;
  private readonly log: LogWriter;
  private readonly serial = new Serial();
  private failure: unknown = undefined;

  constructor(parts: VhdxParts, bat: BlockTable, places: Places) {
    this.parts = parts;
    this.file = parts.file;
    this.bat = bat;
    this.places = places;
    this.log = new LogWriter(parts.file, parts.headers);
  }

  begin(): Promise<void> {
    return this.serial.run(async () => {
      if (this.begun) return;
      await this.parts.headers.beginWriting();
      this.begun = true;
    });
  }

  flush(): Promise<void> {
    return this.serial.run(() => this.writeBack());
  }

  /** Everything in its place, nothing to replay: nothing more is written until the next change. */
  finish(): Promise<void> {
    return this.serial.run(async () => {
      await this.writeBack();
      await this.cutEnd();
      await this.log.retire();
      this.begun = false;
    });
  }

  /** Runs with everything written back; what it gives to `write` reaches the file whole or not at all. */
  async resize(
    work: (write: (changes: readonly TableChange[]) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    await this.begin();
    await this.serial.run(async () => {
      await this.writeBack();
      await work(async (changes) => {
        await this.writeBack();
        try {
          await this.log.write(changes);
        } catch (error) {
          this.failure = error;
          throw error;
        }
      });
    });
  }

  adopt(parts: VhdxParts, bat: BlockTable): void {
    this.parts = parts;
    this.bat = bat;
  }

  /** A sector bitmap block, all clear, for the chunk that holds `block`. */
  addBitmapBlock(block: number): Promise<void> {
    return this.serial.run(() => this.makeBitmapBlock(block));
  }

  private async makeBitmapBlock(block: number): Promise<void> {
    const { bat } = this;
    let known = bat.bitmapBlock(block);
    while (known === undefined) {
      await bat.pages.load();
      known = bat.bitmapBlock(block);
    }
    if (known !== 0) return;
    const offset = this.places.end;
    this.places.end += MIB;
    bat.pages.hold(bat.bitmapPositionOf(block));
    try {
      await this.file.writeZeroes(offset, MIB, ZeroFlag.mayUnmap);
      bat.setBitmapBlock(block, offset);
    } finally {
      bat.pages.release(bat.bitmapPositionOf(block));
    }
  }

  private async writeBack(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    const changes = this.bat.pages.takeChanges();
    const released = this.places.takeReleased();
    try {
      if (changes.length > 0) await this.file.growTo(this.places.end);
      await this.file.flush();
      if (changes.length > 0) await this.log.write(this.inOrder(changes));
      for (const place of released)
        await this.file.writeZeroes(place, this.parts.metadata.blockSize, ZeroFlag.mayUnmap);
    } catch (error) {
      this.bat.pages.restore(changes);
      this.places.keep(released);
      this.failure = error;
      throw error;
    }
    this.bat.pages.written(changes);
    this.places.reuse(released);
  }

  /**
   * Bits before the table, and the table from its end: an entry of a bitmap block stands behind those of the blocks that
   * need it. For changes that do not fit one entry of the log.
   */
  private inOrder(changes: readonly TableChange[]): TableChange[] {
    const { offset, length } = this.parts.regions.bat;
    const isTable = (change: TableChange): boolean =>
      change.offset >= offset && change.offset < offset + length;
    return [...changes.filter((change) => !isTable(change)), ...changes.filter(isTable).toReversed()];
  }

  /** On close: free blocks at the very end of the file are cut off. */
  private async cutEnd(): Promise<void> {
    if (!this.begun) return;
    this.places.trimEnd();
    if (this.file.size <= this.places.end) return;
    await this.file.flush();
    await this.file.resize(this.places.end, true);
  }
}
