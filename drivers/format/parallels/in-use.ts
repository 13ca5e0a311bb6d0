import type { Child } from '../../../src/block/child.ts';
import { FLAGS_OFFSET, InUse, IN_USE_OFFSET } from './header.ts';
import type { Header } from './header.ts';

/**
 * The header's mark "opened for writing": on disk before the first change of the BAT, gone after a clean close. The
 * first change also takes away the flag that says the image is empty.
 */
export class InUseMark {
  private readonly file: Child;
  private readonly flags: number;
  private set: boolean;
  private wanted = false;
  private setting: Promise<void> | undefined = undefined;

  constructor(file: Child, header: Header) {
    this.file = file;
    this.flags = header.flags;
    this.set = header.in_use === InUse.open;
  }

  get isSet(): boolean {
    return this.set;
  }

  /** Whether the BAT may be changed; false: load. */
  tryNeed(): boolean {
    if (!this.set) this.wanted = true;
    return this.set;
  }

  async load(): Promise<void> {
    if (!this.wanted || this.set) return;
    this.setting ??= this.mark().finally(() => {
      this.setting = undefined;
    });
    await this.setting;
    this.set = true;
  }

  /** Only when the BAT is on disk. */
  async clear(): Promise<void> {
    if (!this.set) return;
    await this.write(InUse.closedPlain, IN_USE_OFFSET);
    this.set = false;
  }

  private async mark(): Promise<void> {
    if (this.flags % 2 === 1) await this.write(this.flags - 1, FLAGS_OFFSET);
    await this.write(InUse.open, IN_USE_OFFSET);
  }

  private async write(value: number, at: number): Promise<void> {
    const field = Buffer.alloc(4);
    field.writeUInt32LE(value);
    await this.file.write(field, at);
    await this.file.flush();
  }
}
