import { refuseImage } from '../../../src/block/refuse.ts';
import { HEADER_END, HEADER_SIZE_AT, SIGNATURE, TYPE_NAMES } from './header.ts';
import type { VdiHeader } from './header.ts';

/** A block is copied as a whole when it gets a place: bounded. */
const BLOCK_MAX = 64 * 1024 * 1024;
const BLOCK_MIN = 512;

/** Every rule that the header and the size of the file can break. */
export function checkHeader(header: VdiHeader, fileSize: number, subject: string): void {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  if (header.signature !== SIGNATURE)
    refuse(`signature is 0x${header.signature.toString(16)}`, 'must be 0xbeda107f');
  const major = Math.floor(header.version / 65536);
  if (major !== 1) {
    refuseImage(
      subject,
      `version is ${major}.${header.version % 65536}`,
      'must be 1.x (VirtualBox 2 and later)',
      'ENOTSUP',
    );
  }
  const least = HEADER_END - 16 - HEADER_SIZE_AT - 16;
  if (header.header_size < least) refuse(`header_size is ${header.header_size}`, `must be at least ${least}`);
  if (TYPE_NAMES[header.image_type] === undefined) {
    refuse(
      `image_type is ${header.image_type}`,
      'must be 1 (dynamic), 2 (fixed), 3 (undo) or 4 (differencing)',
    );
  }
  if (header.sector_size !== 512) refuse(`sector_size is ${header.sector_size}`, 'must be 512');
  checkBlocks(header, refuse);
  checkPlaces(header, fileSize, refuse);
}

type Refuse = (is: string, wanted: string) => never;

function checkBlocks(header: VdiHeader, refuse: Refuse): void {
  const { block_size: size, block_extra: extra, disk_size: disk, blocks_in_image: blocks } = header;
  if (size < BLOCK_MIN || size > BLOCK_MAX || size % 512 !== 0) {
    refuse(`block_size is ${size}`, `must be a multiple of 512 from ${BLOCK_MIN} to ${BLOCK_MAX}`);
  }
  if (extra > BLOCK_MAX) refuse(`block_extra is ${extra}`, `must be at most ${BLOCK_MAX}`);
  if (Number.isNaN(disk)) refuse('disk_size is over 2^53 bytes', 'must be less');
  const needed = Math.ceil(disk / size);
  if (blocks < needed) refuse(`blocks_in_image is ${blocks}`, `must be at least ${needed} for ${disk} bytes`);
  if (header.blocks_allocated > blocks) {
    refuse(`blocks_allocated is ${header.blocks_allocated}`, `must be at most blocks_in_image, ${blocks}`);
  }
}

function checkPlaces(header: VdiHeader, fileSize: number, refuse: Refuse): void {
  const { offset_bmap: map, offset_data: data, blocks_in_image: blocks } = header;
  const mapEnd = map + blocks * 4;
  if (map < HEADER_SIZE_AT + 4) refuse(`offset_bmap is ${map}`, 'must be behind the header');
  if (mapEnd > fileSize)
    refuse(`the block map ends at ${mapEnd}`, `must be inside the file of ${fileSize} bytes`);
  if (data < mapEnd)
    refuse(`offset_data is ${data}`, `must be behind the block map, which ends at ${mapEnd}`);
}
