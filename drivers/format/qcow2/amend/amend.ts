/**
 * Changes what `create` had decided, as far as that can be changed. Everything is looked at before anything is changed. What
 * makes another layout of the header or the refcounts comes last: the image is to be closed then.
 */
import type { AmendRequest } from '../../../../src/block/amend-request.ts';
import type { DiskParts } from '../disk.ts';
import { Autoclear, Compatible, Incompatible } from '../features.ts';
import { Resize } from '../resize.ts';
import { expandZeroClusters, refuseDowngrade, writeVersionTwo } from './downgrade.ts';
import { planKeySlots } from './key-slots.ts';
import { planNames, refuseLongHeader, writeNames } from './names.ts';
import { changeRefcountBits, countFor } from './refcount-bits.ts';
import { upgrade } from './upgrade.ts';
import { refuserOf, wantedOf } from './wanted.ts';
import type { Refuse, Wanted } from './wanted.ts';

export type AmendProgress = AmendRequest['progress'];

/**
 * @param parts everything of them is on disk
 * @param resize changes the size of the disk; everything is on disk afterwards
 */
export async function amendQcow2(
  parts: DiskParts,
  request: AmendRequest,
  resize: (size: number) => Promise<void>,
): Promise<void> {
  const { image } = parts;
  const { progress } = request;
  const refuse = refuserOf(image);
  image.requireSound();
  const wanted = wantedOf(image, request.options, refuse);
  await refuseConflicts(parts, wanted, refuse);
  const names = planNames(parts, wanted, refuse);
  if (wanted.version === 3) refuseLongHeader(parts, names, refuse);
  const { version } = image.header.fields;
  const counted =
    wanted.refcountBits === image.geometry.refcountBits
      ? undefined
      : await countFor(parts, wanted.refcountBits, progress);
  const changeKeys = await planKeySlots(parts, request);
  if (wanted.version > version) await upgrade(parts);
  await changeFlags(parts, wanted);
  if (names !== undefined) await writeNames(parts, names);
  await changeKeys();
  const older = wanted.version < version;
  if (wanted.size !== undefined && wanted.size !== image.size) await resize(wanted.size);
  if (older) await expandZeroClusters(parts, progress);
  const isMoved = older || wanted.size !== undefined;
  if (counted !== undefined)
    await changeRefcountBits(parts, wanted.refcountBits, isMoved ? undefined : counted);
  if (older) await writeVersionTwo(parts);
}

async function refuseConflicts(parts: DiskParts, wanted: Wanted, refuse: Refuse): Promise<void> {
  const { image } = parts;
  const { fields } = image.header;
  if (wanted.version < 3) {
    if (wanted.lazy === true) refuse('lazy_refcounts needs compat=1.1');
    if (wanted.refcountBits !== 16)
      refuse(`refcount_bits is ${wanted.refcountBits}, compat=0.10 has 16: ask for refcount_bits=16 too`);
  }
  if (wanted.dataFile !== undefined && !image.external)
    refuse('data_file can only be changed where the image has one');
  if (wanted.dataFile === '') refuse('data_file is empty, must be a name');
  if (wanted.dataFileRaw === true && !image.rawData)
    refuse('data_file_raw can not be set on an image that has been made without it');
  const size = wanted.size ?? image.size;
  if (size < image.size)
    refuse(`its size is ${image.size}, ${size} would cut off data: that is for "blockfuse resize --shrink"`);
  if (size !== image.size && parts.writer !== undefined) {
    if (fields.backing_file_offset !== 0 && !image.hasBacking())
      refuse('its backing file has to be open too: what lies behind the old end must not show through');
    if (fields.nb_snapshots > 0 && wanted.version < 3)
      refuse('compat=0.10 keeps the size where there are snapshots');
    const later = wanted.version > fields.version && fields.nb_snapshots > 0;
    if (!later) new Resize(image, parts.reader, parts.writer).refuse(size, false);
  }
  if (wanted.version < fields.version) await refuseDowngrade(parts, refuse);
}

async function changeFlags({ image }: DiskParts, { lazy, dataFileRaw }: Wanted): Promise<void> {
  const { fields } = image.header;
  if (fields.version < 3) return;
  let {
    compatible_features: compatible,
    autoclear_features: autoclear,
    incompatible_features: bits,
  } = fields;
  if (lazy !== undefined) {
    compatible &= ~Compatible.lazyRefcounts;
    if (lazy) compatible |= Compatible.lazyRefcounts;
    else bits &= ~Incompatible.dirty;
  }
  if (dataFileRaw === false) autoclear &= ~Autoclear.rawDataFile;
  const same =
    compatible === fields.compatible_features &&
    autoclear === fields.autoclear_features &&
    bits === fields.incompatible_features;
  if (same) return;
  await image.header.update({
    compatible_features: compatible,
    autoclear_features: autoclear,
    incompatible_features: bits,
  });
  image.promisedAgain();
}
