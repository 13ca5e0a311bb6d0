import type { CheckOptions, CheckResult, OpenDriver } from '../../../src/block/driver.ts';
import { VhdxImage } from './image.ts';
import { fixedRanges, scanTable } from './scan.ts';

/** Compares the block allocation table with the file. A log is replayed by opening for writing. */
export async function checkImage(open: OpenDriver, _options: CheckOptions): Promise<CheckResult> {
  if (!(open instanceof VhdxImage)) throw new TypeError('not an open VHDX image');
  const { bat, parts } = open;
  const { log_offset: offset, log_length: length } = parts.headers.current;
  const size = Math.max(parts.file.size, parts.overlay.size);
  const { messages, blocks, end } = await scanTable(
    bat,
    fixedRanges(parts.regions, { offset, length }),
    size,
  );
  const pending = parts.logState === 'replayed in memory';
  return {
    corruptions: messages.length + (pending ? 1 : 0),
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: parts.logState === 'replayed' ? 1 : 0,
    leaksFixed: 0,
    imageEndOffset: end,
    totalClusters: bat.shape.blocks,
    allocatedClusters: blocks,
    messages: pending ? ['the log has to be replayed: open the image for writing', ...messages] : messages,
  };
}
