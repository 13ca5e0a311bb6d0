import { refuseImage } from '../../../src/block/refuse.ts';
import { MISH } from './chunks.ts';

/**
 * The block tables of an old image, from its resource fork: u32 offset of the data, of the map, length of both; the
 * data is a row of resources, each behind its u32 length.
 */
export function tablesOfFork(fork: Buffer, subject: string): Buffer[] {
  if (fork.length < 16)
    refuseImage(subject, `the resource fork has ${fork.length} bytes`, 'must be at least 16');
  const start = fork.readUInt32BE(0);
  const end = start + fork.readUInt32BE(8);
  if (end > fork.length)
    refuseImage(subject, `resources end at ${end}`, `must end inside the fork (${fork.length} bytes)`);
  const tables: Buffer[] = [];
  for (let at = start; at + 4 <= end;) {
    const length = fork.readUInt32BE(at);
    const resource = fork.subarray(at + 4, Math.min(end, at + 4 + length));
    if (resource.length >= 4 && resource.readUInt32BE(0) === MISH) tables.push(resource);
    at += 4 + length;
  }
  return tables;
}
