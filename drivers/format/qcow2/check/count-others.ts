import { ExtensionType } from '../extensions.ts';
import type { SnapshotTable } from '../snapshots.ts';
import { readU64 } from '../u64.ts';
import type { References } from './references.ts';

const BITMAP_DIRECTORY_MAX = 64 * 1024 * 1024;
const BITMAP_TABLE_MAX = 32 * 1024 * 1024;
const BITMAP_ENTRY = 24;

/** The header, the snapshot table, and what header extensions name. */
export async function countOthers(references: References, snapshots: SnapshotTable): Promise<void> {
  const { image } = references;
  const { fields } = image.header;
  references.table(0, image.geometry.clusterSize, 'the header');
  if (fields.nb_snapshots > 0)
    references.table(fields.snapshots_offset, snapshots.length, 'the snapshot table');
  for (const { type, data } of image.extensions) {
    if (type === ExtensionType.encryption && data.length >= 16) {
      references.table(readU64(data, 0), readU64(data, 8), 'the encryption header');
    }
    if (type === ExtensionType.bitmaps && data.length >= 24) await countBitmaps(references, data);
  }
}

/** Specification: "Bitmaps". */
async function countBitmaps(references: References, extension: Buffer): Promise<void> {
  const length = readU64(extension, 8);
  const offset = readU64(extension, 16);
  if (length === 0) return;
  if (!(length <= BITMAP_DIRECTORY_MAX)) {
    references.findings.corruption(
      `the bitmap directory is ${length} bytes long, must be at most ${BITMAP_DIRECTORY_MAX}`,
    );
    return;
  }
  if (!references.table(offset, length, 'the bitmap directory')) return;
  const directory = Buffer.alloc(length);
  await references.image.file.read(directory, offset);
  for (let at = 0; at + BITMAP_ENTRY <= length;) {
    await countBitmapTable(references, readU64(directory, at), directory.readUInt32BE(at + 8));
    const size = BITMAP_ENTRY + directory.readUInt16BE(at + 18) + directory.readUInt32BE(at + 20);
    at += Math.ceil(size / 8) * 8;
  }
}

async function countBitmapTable(references: References, offset: number, entries: number): Promise<void> {
  const { image, findings } = references;
  if (entries === 0) return;
  if (entries * 8 > BITMAP_TABLE_MAX) {
    findings.corruption(`a bitmap table has ${entries} entries, must be at most ${BITMAP_TABLE_MAX / 8}`);
    return;
  }
  if (!references.table(offset, entries * 8, 'a bitmap table')) return;
  const table = Buffer.alloc(entries * 8);
  await image.file.read(table, offset);
  for (let index = 0; index < entries; index += 1) {
    const place = Math.floor(readU64(table, index * 8) / 512) * 512;
    if (place !== 0) references.table(place, image.geometry.clusterSize, `piece ${index} of a bitmap`);
  }
}
