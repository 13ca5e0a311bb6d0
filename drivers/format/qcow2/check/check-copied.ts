import { COPIED_WORD, hostOffset, isCompressed, isCopied } from '../l2-entry.ts';
import { writeTable } from '../table-io.ts';
import { eachL1Entry } from './count-l1.ts';
import { encodeWords } from './entry-words.ts';
import type { References } from './references.ts';

export interface CopiedCheck {
  readonly references: References;
  /** Whether a cluster's refcount is one; undefined where nobody knows. */
  readonly isOne: (cluster: number) => boolean | undefined;
  /** Told of each flag that is wrong. */
  readonly wrong: (message: string) => void;
  /** Writes the tables themselves: nothing of them may be cached. */
  readonly repairs: boolean;
  readonly step: () => void;
}

/**
 * The flag of the active tables that says "refcount is exactly one": wrongly set it lets a write destroy a snapshot,
 * wrongly clear it costs a copy. Entries that can't be followed are left alone.
 */
export async function checkCopiedFlags(check: CopiedCheck): Promise<void> {
  const { references } = check;
  const { image } = references;
  const { l1_table_offset: offset, l1_size: entries } = image.header.fields;
  const { clusterSize } = image.geometry;
  const flags = new L2Flags(check);
  await eachL1Entry(references, { offset, from: 0, entries }, async ({ high, low, index }) => {
    const table = hostOffset(high, low);
    if (table === 0) return;
    const isOne = check.isOne(Math.floor(table / clusterSize));
    if (isOne === undefined) return;
    if (isOne !== isCopied(high)) {
      check.wrong(message(`L1 entry ${index}`, high));
      if (check.repairs)
        await image.file.write(encodeWords({ high: toggled(high), low }), offset + index * 8);
    }
    const cluster = table / clusterSize;
    if (table % clusterSize === 0 && references.isInFile(table) && !isElsewhere(references, cluster))
      await flags.check(table);
  });
  if (check.repairs) await image.file.flush();
}

/** What is in the place of another table is not read as an L2 table. */
function isElsewhere(references: References, cluster: number): boolean {
  return references.fixed.find(cluster) !== undefined;
}

class L2Flags {
  private readonly check_: CopiedCheck;
  private readonly bytes: Buffer;
  private readonly view: DataView;

  constructor(check: CopiedCheck) {
    this.check_ = check;
    this.bytes = Buffer.alloc(check.references.image.geometry.clusterSize);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  }

  async check(table: number): Promise<void> {
    const { references, repairs, step } = this.check_;
    const { image } = references;
    const { entrySize } = image.geometry;
    step();
    await image.file.read(this.bytes, table);
    let changed = false;
    for (let at = 0; at < this.bytes.length; at += entrySize) {
      const high = this.view.getUint32(at);
      const low = this.view.getUint32(at + 4);
      if ((high | low) === 0 || !this.isWrong(high, low)) continue;
      this.check_.wrong(message(`entry ${at / entrySize} of the L2 table at ${table}`, high));
      if (repairs) this.bytes.writeUInt32BE(toggled(high), at);
      changed = repairs;
    }
    if (changed) await writeTable(image.file, this.bytes, table);
  }

  private isWrong(high: number, low: number): boolean {
    if (isCompressed(high)) return false;
    const { image } = this.check_.references;
    const place = hostOffset(high, low);
    if (place === 0 && !(image.external && isCopied(high))) return false;
    const isOne = image.external || this.check_.isOne(Math.floor(place / image.geometry.clusterSize));
    return isOne !== undefined && isOne !== isCopied(high);
  }
}

const toggled = (high: number): number => (isCopied(high) ? high - COPIED_WORD : high + COPIED_WORD);

function message(what: string, high: number): string {
  return isCopied(high)
    ? `${what} says that its cluster's refcount is one, which it is not`
    : `${what} does not say that its cluster's refcount is one, which it is`;
}
