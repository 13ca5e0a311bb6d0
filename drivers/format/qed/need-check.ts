import type { Child } from '../../../src/block/child.ts';
import { Feature, FEATURES_OFFSET } from './header.ts';

/**
 * The header's mark "needs a check": on disk before the first change of a table, gone after a clean close.
 *
 *     clear --tryNeed, load--> set --clear--> clear
 */
export class NeedCheckFlag {
  private readonly file: Child;
  private readonly features: bigint;
  private set: boolean;
  private wanted = false;
  private setting: Promise<void> | undefined = undefined;

  /** @param features as they stand in the file */
  constructor(file: Child, features: bigint) {
    this.file = file;
    this.features = features & ~Feature.needCheck;
    this.set = (features & Feature.needCheck) !== 0n;
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
    await this.file.write(field, FEATURES_OFFSET);
    await this.file.flush();
  }
}
