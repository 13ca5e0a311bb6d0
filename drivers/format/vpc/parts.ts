import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { BlockTable } from './block-table.ts';
import type { SizeCalculation } from './disk-size.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import { FOOTER_LENGTH } from './footer.ts';
import type { Footer } from './footer.ts';

/** What an open dynamic or differencing image is made of. */
export interface VpcParts {
  readonly file: Child;
  readonly footer: Footer;
  readonly header: DynamicHeader;
  /** The first of the names that it has for its parent; undefined for one that is no overlay. */
  readonly parentName: string | undefined;
  readonly subject: string;
  readonly size: number;
  readonly sizeCalculation: SizeCalculation;
  /** The footer at the end is good; else the copy at the start was used. */
  readonly tailIsGood: boolean;
  readonly copyIsGood: boolean;
  /** Where the footer stands, or has to be written. */
  readonly footerAt: number;
  /** Places of footers that are damaged or missing: written with the first flush. None for an image only read. */
  readonly repairs: readonly number[];
  readonly writable: boolean;
}

/** Looks the image through before it is written to. @param step bytes of a block with its bitmap */
export async function forWriting(parts: VpcParts, step: number): Promise<VpcParts> {
  const { file, subject, header } = parts;
  const lastEnd = await new BlockTable(file, header, subject).check(step);
  const copy = parts.copyIsGood ? [] : [0];
  if (parts.tailIsGood) {
    if (lastEnd > parts.footerAt) {
      refuseImage(
        subject,
        `the last block ends at ${lastEnd}`,
        `must be in front of the footer at ${parts.footerAt}`,
      );
    }
    return { ...parts, repairs: copy, writable: true };
  }
  const damagedAt = file.size - FOOTER_LENGTH;
  const reusable = damagedAt % 512 === 0 && lastEnd <= damagedAt;
  const footerAt = reusable ? damagedAt : alignUp(Math.max(lastEnd, file.size), 512);
  return { ...parts, footerAt, repairs: [...copy, footerAt], writable: true };
}

/** The size of the disk is settled when it is opened. */
export function refuseOtherSize(
  opened: Pick<VpcParts, 'subject' | 'sizeCalculation'>,
  options: unknown,
): void {
  const given =
    typeof options === 'object' && options !== null && 'force_size_calc' in options
      ? options.force_size_calc
      : undefined;
  if (given === opened.sizeCalculation) return;
  throw new BlockError(
    'ENOTSUP',
    `Cannot reopen "${opened.subject}": force_size_calc can't change while the image is open`,
  );
}
