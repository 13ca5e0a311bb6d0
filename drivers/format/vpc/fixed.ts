import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { NO_LIMITS } from '../../../src/block/limits.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { Footer } from './footer.ts';
import { describe } from './info.ts';

/** A fixed VHD: the disk byte for byte, a footer behind it. */
export class FixedImage implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = true;
  readonly limits: Limits = NO_LIMITS;
  readonly size: number;
  private readonly file: Child;
  private readonly footer: Footer;

  constructor(file: Child, footer: Footer, size: number) {
    this.file = file;
    this.footer = footer;
    this.size = size;
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return out.setData(this.file, offset, max, true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(describe(this.footer, undefined));
  }
}
