import type { Child } from '../../../src/block/child.ts';
import { AUTOCLEAR_OFFSET, Feature, FEATURES_OFFSET } from './header.ts';
import type { Header } from './header.ts';

/**
 * The header's mark "needs a check": on disk before the first change of a table, gone after a clean close. With it
 * go the autoclear bits, of which none is known.
 *
 *     clear --tryNeed, load--> set --clear--> clear
 */
export class NeedCheckFlag {
  private readonly file: Child;
  private readonly features: bigint;
  private readonly autoclear: bigint;
  private set: boolean;
  private wanted = false;
  private setting: Promise<void> | undefined = undefined;

  /** @param header as it stands in the file, but for a check that was made since */
  constructor(file: Child, header: Header) {
    this.file = file;
    this.features = header.features & ~Feature.needCheck;
    this.autoclear = header.autoclear_features;
    this.set = (header.features & Feature.needCheck) !== 0n;
  }

  get isSet(): boolean {
    return this.set;
  }

  /** Whether tables may be changed; false: load. */
  tryNeed(): boolean {
    if (!this.set) this.wanted = true;
    return this.set;
  }

  async load(): Promise<void> {
    if (!this.wanted || this.set) return;
    this.setting ??= this.write(this.features | Feature.needCheck).finally(() => {
      this.setting = undefined;
    });
    await this.setting;
    this.set = true;
  }

  /** Only when every table is on disk. */
  async clear(): Promise<void> {
    if (!this.set) return;
    await this.write(this.features);
    this.set = false;
  }

  private async write(features: bigint): Promise<void> {
    const field = Buffer.alloc(8);
    field.writeBigUInt64LE(features);
    if (this.autoclear !== 0n) await this.file.write(Buffer.alloc(8), AUTOCLEAR_OFFSET);
    await this.file.write(field, FEATURES_OFFSET);
    await this.file.flush();
  }
}
