import { BlockError } from '../../../../src/block/errors.ts';
import { CryptMethod } from '../encryption.ts';
import type { Image } from '../image.ts';
import { COPIED_WORD, ZERO_BIT } from '../l2-entry.ts';
import { encodeWords } from './entry-words.ts';
import type { RepairLog } from './findings.ts';
import type { References } from './references.ts';

const WORD = 2 ** 32;

/** An entry of the disk whose cluster another entry of the disk, or an L2 table, has too. */
export interface SharedEntry {
  /** Byte offset of the entry in the file. */
  readonly at: number;
  readonly cluster: number;
  readonly low: number;
  readonly what: string;
}

/**
 * Gives each entry a cluster of its own, with the same content, behind everything else. Counting the cluster twice would do
 * until one of them is written: then the flag of the other one is wrong. Whether all could be done: where there is no room
 * they stay shared.
 */
export async function unshare(
  references: References,
  shared: readonly SharedEntry[],
  log: RepairLog,
): Promise<boolean> {
  const { image } = references;
  // What LUKS has encrypted can only be read where it is.
  if (image.header.fields.crypt_method === CryptMethod.luks) return false;
  const places = await copyAll(references, shared, log);
  if (places === undefined) return false;
  for (const [index, entry] of shared.entries()) await pointTo(image, entry, places[index] ?? 0);
  await image.file.flush();
  for (const { what, cluster } of shared)
    log.did(`${what}: it has a copy of cluster ${cluster} now, which something else has too`);
  return true;
}

/** Where the copies are, on stable storage; undefined, with the file as it was, where there is no room for them. */
async function copyAll(
  references: References,
  shared: readonly SharedEntry[],
  log: RepairLog,
): Promise<number[] | undefined> {
  const { file } = references.image;
  const { size } = file;
  try {
    const places = await writeCopies(references, shared);
    await file.flush();
    return places;
  } catch (error) {
    await file.resize(size, true).catch(() => undefined);
    if (!(error instanceof BlockError) || error.code !== 'ENOSPC') throw error;
    log.messages.add(`Entries that share clusters go on doing so: ${error.message}`);
    return undefined;
  }
}

async function writeCopies(references: References, shared: readonly SharedEntry[]): Promise<number[]> {
  const { image, counts } = references;
  const { clusterSize } = image.geometry;
  const first = Math.max(counts.end, Math.ceil(image.file.size / clusterSize));
  const bytes = Buffer.alloc(clusterSize);
  const places: number[] = [];
  for (const [index, { cluster }] of shared.entries()) {
    const place = (first + index) * clusterSize;
    await image.file.read(bytes, cluster * clusterSize);
    await image.file.write(bytes, place);
    places.push(place);
  }
  return places;
}

function pointTo(image: Image, { at, low }: SharedEntry, place: number): Promise<void> {
  const high = Math.floor(place / WORD) + COPIED_WORD;
  return image.file.write(encodeWords({ high, low: (place % WORD) + (low & ZERO_BIT) }), at);
}
