/**
 * Master boot records with extended partitions. The four entries of the first sector are 1 to 4; the logical ones, each in
 * a boot record of its own inside the extended partition, linked one to the next, are 5 and up.
 */
import type { Partition, PartitionTable, ReadSectors } from './table.ts';
import { mbrTypeName } from './type-names.ts';

const SECTOR = 512;
const ENTRIES_AT = 446;
const EXTENDED = new Set([0x05, 0x0f, 0x85]);
const PROTECTIVE = 0xee;
/** Links of a chain that are followed: a loop ends here at the latest. */
const MAX_LOGICAL = 128;

interface Entry {
  readonly type: number;
  readonly first: number;
  readonly sectors: number;
}

/** The table of the first sector; undefined when it is none (a file system's boot sector, an empty disk). */
export async function readMbr(read: ReadSectors, size: number): Promise<PartitionTable | undefined> {
  const sector = await read(0, SECTOR);
  const entries = parseEntries(sector);
  if (entries === undefined || !isPlausible(sector, entries, size)) return undefined;
  const warnings: string[] = [];
  const partitions: Partition[] = [];
  for (const [index, entry] of entries.entries()) {
    if (entry.type === 0 || entry.type === PROTECTIVE || entry.sectors === 0) continue;
    partitions.push(toPartition(index + 1, entry, 0, sector));
    if (!EXTENDED.has(entry.type)) continue;
    partitions.push(...(await readLogical(read, entry, sector, warnings)));
  }
  return partitions.length === 0 ? undefined : { scheme: 'mbr', sectorSize: SECTOR, partitions, warnings };
}

async function readLogical(
  read: ReadSectors,
  outer: Entry,
  disk: Buffer,
  warnings: string[],
): Promise<Partition[]> {
  const found: Partition[] = [];
  const seen = new Set<number>();
  let link = outer.first;
  while (found.length < MAX_LOGICAL) {
    if (seen.has(link)) {
      warnings.push('the chain of logical partitions is a loop: it is cut');
      break;
    }
    seen.add(link);
    const entries = parseEntries(await read(link * SECTOR, SECTOR));
    if (entries === undefined) {
      warnings.push(
        `the boot record of a logical partition at sector ${link} has no signature: the chain ends there`,
      );
      break;
    }
    const [own, next] = entries;
    if (own !== undefined && own.type !== 0 && own.sectors > 0) {
      found.push(toPartition(5 + found.length, own, link, disk));
    }
    if (next === undefined || !EXTENDED.has(next.type) || next.sectors === 0) break;
    link = outer.first + next.first;
  }
  return found;
}

function toPartition(number: number, entry: Entry, base: number, disk: Buffer): Partition {
  const signature = disk.readUInt32LE(440).toString(16).padStart(8, '0');
  return {
    number,
    offset: (base + entry.first) * SECTOR,
    length: entry.sectors * SECTOR,
    type: `0x${entry.type.toString(16).padStart(2, '0')}`,
    typeName: mbrTypeName(entry.type),
    name: '',
    extended: EXTENDED.has(entry.type),
    uuid: `${signature}-${number.toString(16).padStart(2, '0')}`,
  };
}

function parseEntries(sector: Buffer): Entry[] | undefined {
  if (sector.length < SECTOR || sector.readUInt16LE(510) !== 0xaa55) return undefined;
  return [0, 1, 2, 3].map((index) => {
    const at = ENTRIES_AT + index * 16;
    return {
      type: sector.readUInt8(at + 4),
      first: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    };
  });
}

/** A boot sector of FAT or NTFS has the signature as well, and code where the entries would be. */
function isPlausible(sector: Buffer, entries: readonly Entry[], size: number): boolean {
  const flags = [0, 1, 2, 3].map((index) => sector.readUInt8(ENTRIES_AT + index * 16));
  if (flags.some((flag) => flag !== 0 && flag !== 0x80)) return false;
  const used = entries.filter((entry) => entry.type !== 0);
  return used.some((entry) => entry.first > 0 && entry.sectors > 0 && entry.first * SECTOR < size);
}
