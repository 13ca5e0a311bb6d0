/** Version 2 of version 3, where the image has nothing that version 2 lacks. */
import { Extent, Placement } from '../../../../src/block/extent.ts';
import type { DiskParts } from '../disk.ts';
import { ExtensionType } from '../extensions.ts';
import { bitsOf, FEATURES, Incompatible } from '../features.ts';
import { encodeField, V2_LENGTH } from '../header.ts';
import { isCompressed, ZERO_BIT } from '../l2-entry.ts';
import type { AmendProgress } from './amend.ts';
import { firstCluster } from './first-cluster.ts';
import type { Refuse } from './wanted.ts';

const VM_STATE_MAX = 2 ** 32 - 1;
const CHUNK = 1024 * 1024;

export async function refuseDowngrade(parts: DiskParts, refuse: Refuse): Promise<void> {
  const { image, area, snapshots, writer } = parts;
  const { incompatible_features: bits } = image.header.fields;
  const [first] = bitsOf(bits & ~Incompatible.dirty);
  if (first !== undefined) {
    const known = FEATURES.find(({ kind, bit }) => kind === 'incompatible' && bit === first);
    refuse(`it has "${known?.name ?? `incompatible feature ${first}`}", which needs compat=1.1`);
  }
  if (area.list.some(({ type }) => type === ExtensionType.bitmaps))
    refuse('it has persistent bitmaps, which need compat=1.1: remove them first');
  if (writer === undefined) refuse('it is open read-only');
  for (const { name, diskSize, vmStateSize, l1Offset, l1Entries } of snapshots.snapshots) {
    if (diskSize !== image.size)
      refuse(`snapshot "${name}" has another size than the disk, which needs compat=1.1`);
    if (vmStateSize > VM_STATE_MAX)
      refuse(`snapshot "${name}" has a VM state of over 4 GiB, which needs compat=1.1`);
    if (await hasZeroFlags(parts, l1Offset, l1Entries))
      refuse(`snapshot "${name}" has zero clusters, which need compat=1.1: delete it first`);
  }
}

async function hasZeroFlags({ image }: DiskParts, offset: number, entries: number): Promise<boolean> {
  const { clusterSize } = image.geometry;
  const l1 = Buffer.alloc(entries * 8);
  await image.file.read(l1, offset);
  const l2 = Buffer.alloc(clusterSize);
  for (let at = 0; at < l1.length; at += 8) {
    const table = Number(l1.readBigUInt64BE(at) & 0x00fffffffffffe00n);
    if (table === 0) continue;
    await image.file.read(l2, table);
    for (let entry = 0; entry < clusterSize; entry += 8) {
      if (!isCompressed(l2.readUInt32BE(entry)) && (l2.readUInt32BE(entry + 4) & ZERO_BIT) !== 0) return true;
    }
  }
  return false;
}

/** Zero clusters become unallocated ones, or where something lies below clusters of zeroes. All of it is on disk then. */
export async function expandZeroClusters(parts: DiskParts, progress: AmendProgress): Promise<void> {
  const { image, writer } = parts;
  while (!image.tryPrepare()) await image.need.load();
  await expandAll(parts, progress);
  await writer?.writeback.flush();
  await writer?.release.idle();
  await writer?.writeback.flushAll();
  await image.clearDirtyBit();
}

/** Only closing may follow. */
export async function writeVersionTwo({ image, area }: DiskParts): Promise<void> {
  const list = area.list.filter(({ type }) => type !== ExtensionType.featureNames);
  const head = await firstCluster(image, V2_LENGTH, list);
  encodeField(head, 'version', 2);
  await image.header.rewrite(head);
}

async function expandAll(parts: DiskParts, progress: AmendProgress): Promise<void> {
  const { image, reader, writer } = parts;
  const hasBacking = image.header.fields.backing_file_offset !== 0;
  const extent = new Extent();
  for (let at = 0; at < image.size; progress?.(at, image.size)) {
    while (!reader.map.tryMap(at, Math.min(CHUNK, image.size - at), extent)) await image.need.load();
    const end = at + extent.length;
    if (extent.kind !== 'zero') at = end;
    while (at < end) at = hasBacking ? await fillWithZeroes(parts, at, end) : await drop(at, end);
  }
  async function drop(at: number, end: number): Promise<number> {
    const done = writer?.zero.tryDrop(at, end - at) ?? end - at;
    if (done === false) await image.need.load();
    return done === false ? at : at + done;
  }
}

async function fillWithZeroes({ image, writer }: DiskParts, at: number, end: number): Promise<number> {
  if (writer === undefined) return end;
  const place = new Placement();
  while (!writer.allocate.tryAllocate(at, end - at, place)) await image.need.load();
  try {
    const zeroes = Buffer.alloc(place.length);
    image.codec?.encode(zeroes, 0, zeroes.length, place.start, place.offset);
    await image.data.write(zeroes, place.offset);
  } catch (error) {
    writer.allocate.abort(place);
    throw error;
  }
  writer.allocate.commit(place);
  return place.start + place.length;
}
