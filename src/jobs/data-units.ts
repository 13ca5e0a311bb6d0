import type { Child } from '../block/child.ts';
import { alignDown, alignUp } from '../util/sizes.ts';
import { segments } from './segments.ts';
import type { JobControl } from './segments.ts';

/** Bytes of the whole units of a disk that hold data which is not known to be zero. */
export async function dataUnits(disk: Child, unit: number, control: JobControl = {}): Promise<number> {
  let bytes = 0;
  let counted = 0;
  for await (const { offset, length, zero } of segments(disk, disk.size, Number.MAX_SAFE_INTEGER)) {
    control.progress?.(offset + length, disk.size);
    if (zero) continue;
    const start = Math.max(counted, alignDown(offset, unit));
    counted = Math.max(counted, alignUp(offset + length, unit));
    bytes += counted - start;
  }
  return bytes;
}
