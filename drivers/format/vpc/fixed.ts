import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import { requireShrink } from '../../../src/block/refuse.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { SizeCalculation } from './disk-size.ts';
import { encodeFooter, FOOTER_LENGTH } from './footer.ts';
import type { Footer } from './footer.ts';
import { describe } from './info.ts';
import { resizedFooter } from './resize.ts';

export interface FixedParts {
  readonly file: Child;
  readonly footer: Footer;
  readonly subject: string;
  readonly size: number;
  readonly sizeCalculation: SizeCalculation;
}

/** A fixed VHD: the disk byte for byte, a footer behind it. */
export class FixedImage implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = true;
  readonly limits: Limits = limits({ sizeUnit: 512 });
  size: number;
  private readonly file: Child;
  private readonly parts: FixedParts;
  private footer: Footer;

  constructor(parts: FixedParts) {
    this.parts = parts;
    this.file = parts.file;
    this.footer = parts.footer;
    this.size = parts.size;
  }

  /** A new footer where the disk is to end, then what is behind the old end, or behind the new one, goes. */
  async resize(size: number, shrink: boolean): Promise<void> {
    const { file, size: old } = this;
    if (size === old) return;
    requireShrink(this.parts.subject, old, size, shrink);
    const footer = resizedFooter(this.footer, size, this.parts);
    const end = file.size;
    await file.flush();
    await file.write(encodeFooter(footer), size);
    await file.flush();
    if (size > old) await file.writeZeroes(old, Math.min(size, end) - old);
    if (file.size > size + FOOTER_LENGTH) await file.resize(size + FOOTER_LENGTH, true);
    await file.flush();
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
    return Promise.resolve(describe(this.footer, undefined, undefined));
  }
}
