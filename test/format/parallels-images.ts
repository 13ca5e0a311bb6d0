/** Parallels images that no tool makes any more. */
import { encodeHeader, InUse, MAGIC_V1 } from '../../drivers/format/parallels/header.ts';

/** A version 1 image as its specification describes it: entries count sectors, data_off may be 0. */
export function versionOne(disk: Buffer, tracks: number): Buffer {
  const cluster = tracks * 512;
  const entries = Math.ceil(disk.length / cluster);
  const dataOffset = Math.ceil((64 + entries * 4) / 512) * 512;
  const head = Buffer.alloc(dataOffset);
  encodeHeader({
    magic: MAGIC_V1,
    version: 2,
    heads: 16,
    cylinders: 100,
    tracks,
    nb_bat_entries: entries,
    nb_sectors: disk.length / 512,
    in_use: InUse.closed,
    data_off: 0,
    flags: 0,
    ext_off: 0,
  }).copy(head);
  const parts = [head];
  for (let index = entries - 1; index >= 0; index -= 1) {
    const bytes = Buffer.alloc(cluster);
    disk.copy(bytes, 0, index * cluster, (index + 1) * cluster);
    if (bytes.every((byte) => byte === 0)) continue;
    head.writeUInt32LE((dataOffset + (parts.length - 1) * cluster) / 512, 64 + index * 4);
    parts.push(bytes);
  }
  return Buffer.concat(parts);
}
