import type { CheckOptions, CheckResult, OpenDriver } from '../../../src/block/driver.ts';
import { Entry } from './header.ts';
import { VdiImage } from './image.ts';

/** Compares the block map with the header and the file. Repairs what a crash leaves: places that are counted but not used. */
export async function checkImage(open: OpenDriver, options: CheckOptions): Promise<CheckResult> {
  if (!(open instanceof VdiImage)) throw new TypeError('not an open VDI image');
  const { map, header, file } = open;
  const messages: string[] = [];
  const seen = new Set<number>();
  let fragmented = 0;
  let last = -1;
  let end = 0;
  const step = header.block_size + header.block_extra;
  const inFile = Math.ceil((file.size - header.offset_data) / step);
  for (let block = 0; block < map.blocks; block += 1) {
    const entry = await read(open, block, messages);
    if (entry >= Entry.zero) continue;
    if (seen.has(entry)) messages.push(`block ${block} shares place ${entry} with another block`);
    else if (entry >= inFile)
      messages.push(`block ${block} is at place ${entry}, the file ends at ${inFile}`);
    seen.add(entry);
    end = Math.max(end, entry + 1);
    if (last >= 0 && entry !== last + 1) fragmented += 1;
    last = entry;
    if (block % 65536 === 0) options.progress?.(block, map.blocks);
  }
  const { blocks_allocated: counted } = header;
  if (counted < end) messages.push(`blocks_allocated is ${counted}, place ${end - 1} is in use`);
  const corruptions = messages.length;
  const leaks = Math.max(0, counted - seen.size);
  if (leaks > 0) messages.push(`blocks_allocated is ${counted}, the block map uses ${seen.size}`);
  const repairs = leaks > 0 && options.repair !== 'none';
  if (repairs) await open.finish();
  return {
    corruptions,
    leaks: repairs ? 0 : leaks,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: repairs ? leaks : 0,
    imageEndOffset: header.offset_data + header.blocks_allocated * step,
    totalClusters: map.blocks,
    allocatedClusters: seen.size,
    fragmentedClusters: fragmented,
    messages,
  };
}

async function read(image: VdiImage, block: number, messages: string[]): Promise<number> {
  try {
    let entry = image.map.entry(block);
    while (entry === undefined) {
      await image.map.pages.load();
      entry = image.map.entry(block);
    }
    return entry;
  } catch (error) {
    messages.push(error instanceof Error ? error.message : String(error));
    return Entry.unallocated;
  }
}
