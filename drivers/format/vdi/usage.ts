import { damaged, refuseImage } from '../../../src/block/refuse.ts';
import type { BlockMap } from './block-map.ts';
import { BLOCKS_MAX, Entry } from './header.ts';
import type { VdiHeader } from './header.ts';

/** Free places remembered; further ones stay unused. */
const GAPS_MAX = 1024 * 1024;

/** Which places the block map names. */
export interface Usage {
  /** One bit a place. */
  readonly used: Uint8Array;
  readonly count: number;
  /** The first place behind every used one. */
  readonly end: number;
}

/** Reads the whole map of an image that is to be written to. Throws EIO when places are shared or outside the file. */
export async function readUsage(
  map: BlockMap,
  header: VdiHeader,
  file: { size: number; subject: string },
): Promise<Usage> {
  const { subject } = file;
  if (map.blocks > BLOCKS_MAX) {
    refuseImage(
      subject,
      `blocks_in_image is ${map.blocks}`,
      `must be at most ${BLOCKS_MAX} for writing`,
      'EFBIG',
    );
  }
  const inFile = Math.ceil((file.size - header.offset_data) / (header.block_size + header.block_extra));
  const used = new Uint8Array(Math.ceil(map.limit / 8));
  let count = 0;
  let end = 0;
  await map.each((block, place) => {
    if (place >= Entry.zero) return;
    const byte = used[place >> 3] ?? 0;
    const bit = 1 << (place & 7);
    const is = `block map entry ${block} is ${place}`;
    if ((byte & bit) !== 0) throw damaged(subject, is, 'must not name the place of another block');
    if (place >= inFile) throw damaged(subject, is, `must be inside the file, which has ${inFile} places`);
    used[place >> 3] = byte | bit;
    count += 1;
    end = Math.max(end, place + 1);
  });
  return { used, count, end };
}

/** The places below `end` that no block uses, highest first. */
export function gaps({ used, end }: Usage): number[] {
  const free: number[] = [];
  for (let place = end - 1; place >= 0 && free.length < GAPS_MAX; place -= 1) {
    if (((used[place >> 3] ?? 0) & (1 << (place & 7))) === 0) free.push(place);
  }
  return free;
}
