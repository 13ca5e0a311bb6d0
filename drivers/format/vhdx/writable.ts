import { BlockError } from '../../../src/block/errors.ts';
import { damaged } from '../../../src/block/refuse.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { BlockTable } from './bat.ts';
import { MIB } from './header.ts';
import type { VhdxParts } from './parts.ts';
import { fixedRanges, scanTable } from './scan.ts';

/** A larger table is not looked through before writing. */
const SCAN_MAX = 64 * MIB;

/** Looks an image through that is to be written to; the byte behind its last block. Throws when it is not sound. */
export async function endForWriting({ parts, bat }: { parts: VhdxParts; bat: BlockTable }): Promise<number> {
  const { file, headers, logState, regions, subject } = parts;
  if (logState === 'replayed in memory' || logState === 'unreadable') {
    throw new BlockError(
      'ENOTSUP',
      `Cannot write to image "${subject}": its log was ${logState}, open it anew for writing`,
    );
  }
  if (regions.bat.length > SCAN_MAX) return 0;
  const { log_offset: offset, log_length: length } = headers.current;
  const size = alignUp(file.size, MIB);
  const { messages, end } = await scanTable(
    bat,
    fixedRanges(regions, { offset, length }),
    Number.POSITIVE_INFINITY,
  );
  const [first] = messages;
  if (first !== undefined) throw new BlockError('EIO', `Cannot write to image "${subject}": ${first}`);
  if (end > size + 256 * MIB)
    throw damaged(subject, `a block ends at ${end}`, `must be inside the file of ${size} bytes`);
  return end;
}
