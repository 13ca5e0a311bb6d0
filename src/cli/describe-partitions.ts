import { errnoOf } from '../block/errors.ts';
import type { Child } from '../block/child.ts';
import { readPartitionTable } from '../partition/table.ts';
import type { Partition } from '../partition/table.ts';
import { complain } from './output.ts';

/** The key `partition-table` of an image's description; nothing for a disk without one, or one that no key was given for. */
export async function describePartitions(disk: Child): Promise<Record<string, unknown>> {
  try {
    const table = await readPartitionTable(disk);
    if (table === undefined) return {};
    const { scheme, sectorSize, partitions, warnings } = table;
    for (const warning of warnings) complain(`warning: partition table: ${warning}`);
    return {
      'partition-table': {
        scheme,
        'sector-size': sectorSize,
        partitions: partitions.map(describe),
        warnings,
      },
    };
  } catch (error) {
    // What the image is can be told even so.
    if (errnoOf(error) !== 'ENOKEY')
      complain(`warning: ${error instanceof Error ? error.message : String(error)}`);
    return {};
  }
}

function describe({ typeName, ...rest }: Partition): Record<string, unknown> {
  return { ...rest, 'type-name': typeName };
}
