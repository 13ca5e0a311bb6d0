/**
 * Changes what `create` had decided, as far as that can be changed. Everything is looked at before anything is changed. What
 * makes another layout of the header or the refcounts comes last: the image is to be closed then.
 */
import { BlockError } from '../../../../src/block/errors.ts';
import type { DiskParts } from '../disk.ts';
import { Autoclear, Compatible, Incompatible } from '../features.ts';
import { changeDataFileName } from './data-file-name.ts';
import { expandZeroClusters, refuseDowngrade, writeVersionTwo } from './downgrade.ts';
import { changeRefcountBits } from './refcount-bits.ts';
import { upgrade } from './upgrade.ts';

export type AmendProgress = ((done: number, total: number) => void) | undefined;

interface Wanted {
  readonly version: number;
  readonly refcountBits: number;
  readonly lazy: boolean | undefined;
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean | undefined;
}

type Refuse = (what: string) => never;

/** @param parts everything of them is on disk */
export async function amendQcow2(
  parts: DiskParts,
  options: Readonly<Record<string, string>>,
  progress?: AmendProgress,
): Promise<void> {
  const { image } = parts;
  const refuse: Refuse = (what) => {
    throw new BlockError('ENOTSUP', `Cannot amend image "${image.subject}": ${what}`);
  };
  const wanted = wantedOf(parts, options, refuse);
  await refuseConflicts(parts, wanted, refuse);
  const { fields } = image.header;
  image.requireSound();
  if (wanted.version > fields.version) await upgrade(parts);
  await changeFlags(parts, wanted);
  if (wanted.dataFile !== undefined) await changeDataFileName(parts, wanted.dataFile);
  const older = wanted.version < image.header.fields.version;
  if (older) await expandZeroClusters(parts, progress);
  if (wanted.refcountBits !== image.geometry.refcountBits)
    await changeRefcountBits(parts, wanted.refcountBits, progress);
  if (older) await writeVersionTwo(parts);
}

function wantedOf({ image }: DiskParts, options: Readonly<Record<string, string>>, refuse: Refuse): Wanted {
  const { compat, lazy_refcounts, refcount_bits, data_file, data_file_raw, ...others } = options;
  const [other] = Object.keys(others);
  if (other !== undefined) refuse(`"${other}" can't be changed once an image is made, convert it`);
  const flag = (name: string, text: string | undefined): boolean | undefined => {
    if (text === undefined || text === 'on' || text === 'off')
      return text === undefined ? text : text === 'on';
    return refuse(`${name} is "${text}", must be on or off`);
  };
  const bits = refcount_bits === undefined ? image.geometry.refcountBits : Number(refcount_bits);
  if (![1, 2, 4, 8, 16, 32, 64].includes(bits))
    refuse(`refcount_bits is ${refcount_bits}, must be a power of two from 1 to 64`);
  return {
    version: compat === undefined ? image.header.fields.version : versionOf(compat, refuse),
    refcountBits: bits,
    lazy: flag('lazy_refcounts', lazy_refcounts),
    dataFile: data_file,
    dataFileRaw: flag('data_file_raw', data_file_raw),
  };
}

function versionOf(compat: string, refuse: Refuse): number {
  if (compat === '1.1' || compat === 'v3') return 3;
  return compat === '0.10' || compat === 'v2' ? 2 : refuse(`compat is "${compat}", must be 0.10 or 1.1`);
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
