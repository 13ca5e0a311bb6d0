/** What stands before the tables: partition table, boot sector, and what FAT32 has beside it. Little-endian throughout. */
import type { Geometry } from './geometry.ts';
import { SECTOR, SLOT } from './geometry.ts';

export const MEDIA_DISK = 0xf8;
export const MEDIA_FLOPPY = 0xf0;
const NO_LABEL = 'NO NAME';
const ROOT_CLUSTER = 2;
const FS_INFO = 1;
const BACKUP = 6;

export interface Volume {
  readonly label: string;
  readonly serial: number;
  /** Clusters in use. */
  readonly used: number;
}

/** Everything from the start of the disk to the first FAT. */
export function encodeHead(geometry: Geometry, volume: Volume): Buffer {
  const { partition, reserved, type } = geometry;
  const head = Buffer.alloc((partition + reserved) * SECTOR);
  if (partition > 0) partitionTable(geometry, volume.serial).copy(head);
  const boot = bootSector(geometry, volume);
  boot.copy(head, partition * SECTOR);
  if (type !== 32) return head;
  const info = infoSector(geometry, volume);
  info.copy(head, (partition + FS_INFO) * SECTOR);
  boot.copy(head, (partition + BACKUP) * SECTOR);
  info.copy(head, (partition + BACKUP + FS_INFO) * SECTOR);
  return head;
}

export const mediaOf = ({ floppy }: Geometry): number => (floppy ? MEDIA_FLOPPY : MEDIA_DISK);

function bootSector(geometry: Geometry, volume: Volume): Buffer {
  const { type, partition, total, rootLength, reserved, fatLength } = geometry;
  const sector = Buffer.alloc(SECTOR);
  const size = total - partition;
  sector.set(type === 32 ? [0xeb, 0x58, 0x90] : [0xeb, 0x3c, 0x90], 0);
  sector.write('BLKFUSE ', 3, 'latin1');
  sector.writeUInt16LE(SECTOR, 11);
  sector.writeUInt8(geometry.sectorsPerCluster, 13);
  sector.writeUInt16LE(reserved, 14);
  sector.writeUInt8(2, 16);
  sector.writeUInt16LE((rootLength * SECTOR) / SLOT, 17);
  const isShort = size < 65536 && type !== 32;
  sector.writeUInt16LE(isShort ? size : 0, 19);
  sector.writeUInt8(mediaOf(geometry), 21);
  sector.writeUInt16LE(type === 32 ? 0 : fatLength, 22);
  sector.writeUInt16LE(geometry.sectorsPerTrack, 24);
  sector.writeUInt16LE(geometry.heads, 26);
  sector.writeUInt32LE(partition, 28);
  sector.writeUInt32LE(isShort ? 0 : size, 32);
  if (type === 32) {
    sector.writeUInt32LE(fatLength, 36);
    sector.writeUInt32LE(ROOT_CLUSTER, 44);
    sector.writeUInt16LE(FS_INFO, 48);
    sector.writeUInt16LE(BACKUP, 50);
  }
  writeTail(sector, type === 32 ? 64 : 36, geometry, volume);
  return sector;
}

function writeTail(sector: Buffer, at: number, { floppy, type }: Geometry, { label, serial }: Volume): void {
  sector.writeUInt8(floppy ? 0 : 0x80, at);
  sector.writeUInt8(0x29, at + 2);
  sector.writeUInt32LE(serial, at + 3);
  sector.write((label === '' ? NO_LABEL : label).padEnd(11), at + 7, 11, 'latin1');
  sector.write(`FAT${type}`.padEnd(8), at + 18, 8, 'latin1');
  sector.writeUInt16LE(0xaa55, 510);
}

function infoSector({ clusters }: Geometry, { used }: Volume): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector.writeUInt32LE(0x41615252, 0);
  sector.writeUInt32LE(0x61417272, 484);
  sector.writeUInt32LE(clusters - used, 488);
  sector.writeUInt32LE(Math.min(used, clusters - 1) + 2, 492);
  sector.writeUInt32LE(0xaa550000, 508);
  return sector;
}

function partitionTable(geometry: Geometry, serial: number): Buffer {
  const { partition, total, type } = geometry;
  const sector = Buffer.alloc(SECTOR);
  sector.writeUInt32LE(serial, 440);
  sector.writeUInt8(0x80, 446);
  writeAddress(sector, 447, partition, geometry);
  const small = type === 16 && total - partition < 65536;
  sector.writeUInt8(type === 12 ? 0x01 : small ? 0x04 : type === 16 ? 0x06 : 0x0c, 450);
  writeAddress(sector, 451, total - 1, geometry);
  sector.writeUInt32LE(partition, 454);
  sector.writeUInt32LE(total - partition, 458);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** Head, sector (from 1) with the high bits of the cylinder, cylinder; the last address where it does not fit. */
function writeAddress(sector: Buffer, at: number, block: number, { heads, sectorsPerTrack }: Geometry): void {
  const track = Math.floor(block / sectorsPerTrack);
  const cylinder = Math.floor(track / heads);
  if (cylinder > 1023) {
    sector.set([0xfe, 0xff, 0xff], at);
    return;
  }
  const high = Math.floor(cylinder / 256) * 64;
  sector.set([track % heads, (block % sectorsPerTrack) + 1 + high, cylinder % 256], at);
}
