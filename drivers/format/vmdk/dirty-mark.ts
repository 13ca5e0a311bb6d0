import type { Child } from '../../../src/block/child.ts';
import type { Field } from './layout.ts';

/**
 * The header's `uncleanShutdown`: on disk before the first change, off again after everything else is on disk.
 * One that was found set stays set: that the tables of an extent that was not closed are in order, nobody has checked.
 */
export class DirtyMark {
  /** Changes may be made. */
  set: boolean;
  private readonly file: Child;
  private readonly field: Field;
  readonly found: boolean;
  private raising: Promise<void> | undefined = undefined;

  constructor(file: Child, field: Field, found: boolean) {
    this.file = file;
    this.field = field;
    this.found = found;
    this.set = found;
  }

  raise(): Promise<void> {
    this.raising ??= this.write(1)
      .then(() => this.file.flush())
      .then(() => {
        this.set = true;
      })
      .finally(() => {
        this.raising = undefined;
      });
    return this.raising;
  }

  /** The caller flushes. */
  async clear(): Promise<void> {
    if (!this.set || this.found) return;
    await this.write(0);
    this.set = false;
  }

  private async write(value: number): Promise<void> {
    const bytes = Buffer.alloc(this.field.width);
    bytes.writeUInt8(value);
    await this.file.write(bytes, this.field.at);
  }
}
