import type { Child } from '../block/child.ts';
import { readGpt } from './gpt.ts';
import { readMbr } from './mbr.ts';

/** A partition as a range of the disk. */
export interface Partition {
  /** As Linux numbers it: the entry's index plus one; logical partitions of an MBR from 5. */
  readonly number: number;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  readonly length: number;
  /** GPT: the type GUID; MBR: `0x83`. */
  readonly type: string;
  readonly typeName: string;
  /** GPT only; '' otherwise. */
  readonly name: string;
  readonly uuid: string;
  /** An MBR's extended partition: it holds logical ones and no data of its own. */
  readonly extended: boolean;
}

export interface PartitionTable {
  readonly scheme: 'gpt' | 'mbr';
  /** Bytes of the sectors that the table counts in. */
  readonly sectorSize: number;
  readonly partitions: readonly Partition[];
  /** What was refused or cut, in plain words. */
  readonly warnings: readonly string[];
}

/** Reads from a disk; short at its end. */
export type ReadSectors = (offset: number, length: number) => Promise<Buffer>;

export const SECTOR_SIZES = [512, 4096] as const;

/** The partition table of a disk, GPT before MBR; undefined when it has none. Never trusts a number of it. */
export async function readPartitionTable(
  disk: Pick<Child, 'size' | 'read'>,
): Promise<PartitionTable | undefined> {
  const read: ReadSectors = async (offset, length) => {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, disk.size - offset)));
    if (bytes.length > 0) await disk.read(bytes, offset);
    return bytes;
  };
  const table = (await readGpt(read, disk.size)) ?? (await readMbr(read, disk.size));
  return table === undefined ? undefined : withinDisk(table, disk.size);
}

/** Cuts what reaches past the end, drops what lies behind it, tells of overlaps. */
function withinDisk(table: PartitionTable, size: number): PartitionTable {
  const warnings = [...table.warnings];
  const partitions: Partition[] = [];
  for (const partition of table.partitions) {
    const { number, offset, length } = partition;
    if (offset >= size || length <= 0) {
      warnings.push(
        `partition ${number} (${length} bytes at ${offset}) lies outside the disk of ${size} bytes`,
      );
      continue;
    }
    if (offset + length > size) warnings.push(`partition ${number} is cut at the end of the disk`);
    const clash = partitions.find(
      (each) => each.offset < offset + length && offset < each.offset + each.length,
    );
    if (clash !== undefined && !partition.extended)
      warnings.push(`partition ${number} overlaps partition ${clash.number}`);
    partitions.push({ ...partition, length: Math.min(length, size - offset) });
  }
  return { ...table, partitions, warnings };
}
