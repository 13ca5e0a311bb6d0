import type { CheckOptions } from '../../../../src/block/driver.ts';
import type { ExpectedRefcounts } from './expected-refcounts.ts';
import type { Findings } from './findings.ts';
import type { Image } from '../image.ts';
import { COPIED_WORD, hostOffset, isCompressed, isCopied } from '../l2-entry.ts';
import type { References } from './references.ts';

export interface CopiedCheck {
  readonly references: References;
  readonly repair: CheckOptions['repair'];
}

/**
 * The flag of the active tables that says "refcount is exactly one": wrongly set it lets a write destroy a snapshot,
 * wrongly clear it costs a copy. Repairs write the tables themselves: to be called with nothing cached.
 */
export async function checkCopiedFlags({ references, repair }: CopiedCheck): Promise<void> {
  const { image, expected, findings } = references;
  const { l1_table_offset: offset, l1_size: entries } = image.header.fields;
  if (entries === 0) return;
  const flags = new FlagCheck(expected, findings, repair === 'all');
  const l1 = Buffer.alloc(entries * 8);
  await image.file.read(l1, offset);
  const { clusterSize, entrySize } = image.geometry;
  const l2 = Buffer.alloc(clusterSize);
  for (let index = 0; index < entries; index += 1) {
    const table = hostOffset(l1.readUInt32BE(index * 8), l1.readUInt32BE(index * 8 + 4));
    if (table === 0 || table % clusterSize !== 0 || table >= image.file.size) continue;
    flags.check(l1, index * 8, table / clusterSize, `L1 entry ${index}`);
    if (image.external) continue;
    await image.file.read(l2, table);
    for (let entry = 0; entry < image.geometry.tableEntries; entry += 1) {
      checkEntry(flags, image, l2, entry * entrySize);
    }
    if (flags.takeChanged()) await image.file.write(Buffer.from(l2), table);
  }
  if (flags.changedEver) await image.file.write(l1, offset);
}

function checkEntry(flags: FlagCheck, image: Image, l2: Buffer, at: number): void {
  const high = l2.readUInt32BE(at);
  if (isCompressed(high)) return;
  const place = hostOffset(high, l2.readUInt32BE(at + 4));
  const { clusterSize } = image.geometry;
  if (place === 0 || place % clusterSize !== 0) return;
  flags.check(l2, at, place / clusterSize, `the L2 entry of host offset ${place}`);
}

class FlagCheck {
  changedEver = false;
  private changed = false;
  private readonly expected: ExpectedRefcounts;
  private readonly findings: Findings;
  private readonly fixes: boolean;

  constructor(expected: ExpectedRefcounts, findings: Findings, fixes: boolean) {
    this.expected = expected;
    this.findings = findings;
    this.fixes = fixes;
  }

  check(bytes: Buffer, at: number, cluster: number, what: string): void {
    const high = bytes.readUInt32BE(at);
    const references = this.expected.get(cluster);
    const copied = isCopied(high);
    if (references === 0 || copied === (references === 1)) return;
    const said = copied ? 'says' : 'does not say';
    this.findings.corruption(
      `${what} ${said} that its refcount is one, with ${references} references`,
      this.fixes,
    );
    if (!this.fixes) return;
    bytes.writeUInt32BE(copied ? high - COPIED_WORD : high + COPIED_WORD, at);
    this.changed = true;
    this.changedEver = true;
  }

  takeChanged(): boolean {
    const { changed } = this;
    this.changed = false;
    return changed;
  }
}
