import type { References } from './references.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/**
 * Makes refcounts that are too low, or those that are too high, what they ought to be, where their blocks are. Too low ones
 * come first, then tables that need them, then too high ones: whatever of it reaches the disk, nothing is free that is used.
 */
export async function setRefcounts(references: References, which: 'too low' | 'too high'): Promise<void> {
  const { image, counts, fileClusters } = references;
  const { blockEntries } = image.geometry;
  const stored = await StoredRefcounts.load(image);
  const end = Math.max(fileClusters, counts.end);
  for (let index = 0; index * blockEntries < end; index += 1) {
    if (stored.state(index) !== 'present') continue;
    await stored.loadBlock(index);
    const first = index * blockEntries;
    let changed = false;
    for (let entry = 0; entry < Math.min(blockEntries, end - first); entry += 1) {
      const actual = stored.get(entry);
      const wanted = counts.get(first + entry);
      if (which === 'too low' ? actual >= wanted : actual <= wanted) continue;
      stored.change(entry, wanted);
      changed = true;
    }
    if (changed) await stored.writeBlock();
  }
  await image.file.flush();
}
