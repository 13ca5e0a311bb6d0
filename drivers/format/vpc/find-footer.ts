import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import {
  COOKIE,
  decodeFooter,
  DiskType,
  FOOTER_LENGTH,
  footerChecksum,
  isFooter,
  TYPE_NAMES,
} from './footer.ts';
import type { Footer } from './footer.ts';

export interface FoundFooter {
  readonly footer: Footer;
  /** Where the footer at the end begins; undefined when it is damaged or missing and the copy at the start was used. */
  readonly tailAt: number | undefined;
  /** The copy at the start is damaged; a fixed image has none. */
  readonly copyDamaged: boolean;
}

/** The footer at the end of the file, or the copy at its start where that is damaged. */
export async function findFooter(file: Child, subject: string): Promise<FoundFooter> {
  const { size } = file;
  if (size < FOOTER_LENGTH - 1)
    refuseImage(subject, `the file has ${size} bytes`, `must have a footer of ${FOOTER_LENGTH}`);
  const head = await readFooter(file, 0);
  const tailAt = await findTail(file);
  if (tailAt !== undefined) {
    const footer = decodeFooter(await readFooter(file, tailAt));
    checkFooter(footer, subject);
    return { footer, tailAt, copyDamaged: footer.type !== DiskType.fixed && !isFooter(head) };
  }
  if (!isFooter(head))
    refuseDamaged(subject, await readFooter(file, Math.max(0, size - FOOTER_LENGTH)), head);
  const footer = decodeFooter(head);
  checkFooter(footer, subject);
  return { footer, tailAt: undefined, copyDamaged: false };
}

/** Images of Virtual PC before 2004 end with 511 bytes of footer; the last one, reserved, is missing. */
async function findTail(file: Child): Promise<number | undefined> {
  for (const length of [FOOTER_LENGTH, FOOTER_LENGTH - 1]) {
    const at = file.size - length;
    if (at >= 0 && isFooter(await readFooter(file, at))) return at;
  }
  return undefined;
}

async function readFooter(file: Child, offset: number): Promise<Buffer> {
  const bytes = Buffer.alloc(FOOTER_LENGTH);
  await file.read(bytes, offset);
  return bytes;
}

function refuseDamaged(subject: string, tail: Buffer, head: Buffer): never {
  const seen = [tail, head].find((bytes) => bytes.toString('latin1', 0, 8) === COOKIE);
  if (seen === undefined)
    refuseImage(
      subject,
      'there is no footer at its end nor a copy at its start',
      `must begin with "${COOKIE}"`,
    );
  refuseImage(
    subject,
    `the footer's checksum is ${seen.readUInt32BE(64)}`,
    `must be ${footerChecksum(seen)}`,
  );
}

function checkFooter(footer: Footer, subject: string): void {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  const major = Math.floor(footer.version / 65_536);
  if (major !== 1) refuse(`version is ${major}.${footer.version % 65_536}`, 'must be 1.x');
  if (TYPE_NAMES[footer.type] === undefined)
    refuse(`type is ${footer.type}`, 'must be 2 (fixed), 3 (dynamic) or 4 (differencing)');
  if (Number.isNaN(footer.current_size)) refuse('current_size is over 2^53 bytes', 'must be less');
}
