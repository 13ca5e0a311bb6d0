/**
 * Finds entries of a snapshot table whose lengths, or whose place, are damaged:
 *
 *   an entry begins at a multiple of 8, with an L1 table that is in use; it ends where the next one begins
 *   the text that the lengths do not account for belongs to the one of them that is wrong
 *   a table that is not where the header says is in a cluster that is in use and that nothing else names
 */
import { hostOffset } from '../l2-entry.ts';
import { decodeSnapshot, SNAPSHOT_FIXED } from '../snapshot/entry.ts';
import type { Snapshot } from '../snapshots.ts';
import { EXTRA_MAX } from '../snapshots.ts';
import { readU64 } from '../u64.ts';
import type { ListedSnapshot } from './snapshot-list.ts';
import { parseList, readList, whyUnusable } from './snapshot-list.ts';
import type { Survey } from './survey.ts';

const NANOSECONDS = 1_000_000_000;
/** What QEMU writes. */
const EXTRA_USUAL = [24, 16];
const FIRST_PRINTABLE = 0x20;

/** All snapshots that can be found where the header says, or elsewhere. */
export async function recoverSnapshots(found: Survey): Promise<Snapshot[]> {
  const { image } = found.references;
  const { nb_snapshots: count, snapshots_offset: offset } = image.header.fields;
  const { clusterSize } = image.geometry;
  const aligned = offset - (offset % clusterSize);
  const here = aligned >= clusterSize && aligned < image.file.size ? await snapshotsAt(found, aligned) : [];
  if (here.length > 0) return here;
  const elsewhere = await search(found, count);
  return elsewhere ?? [];
}

async function snapshotsAt(found: Survey, offset: number): Promise<Snapshot[]> {
  const { image } = found.references;
  const bytes = await readList(image, offset);
  const strict: Snapshot[] = [];
  for (const listed of parseList(bytes, found.references)) {
    const snapshot = await usable(found, listed);
    if (snapshot !== undefined) strict.push(snapshot);
  }
  const isWhole = strict.length === image.header.fields.nb_snapshots && strict.every(isSane);
  if (isWhole) return strict;
  const scanned = await scan(found, bytes);
  return scanned.length >= strict.length ? scanned : strict;
}

const isSane = ({ idBytes, nameBytes, extra }: Snapshot): boolean =>
  isPrintable(idBytes) && isPrintable(nameBytes) && extra.length <= EXTRA_MAX;

/** One whose L1 table is misaligned may be right without the bits that must be 0. */
async function usable(found: Survey, { snapshot, unusable }: ListedSnapshot): Promise<Snapshot | undefined> {
  if (unusable === undefined) return snapshot;
  const { references } = found;
  const { clusterSize } = references.image.geometry;
  const l1Offset = snapshot.l1Offset - (snapshot.l1Offset % clusterSize);
  const next = { ...snapshot, l1Offset };
  if (l1Offset === snapshot.l1Offset || whyUnusable(next, references) !== undefined) return undefined;
  const isFree = references.counts.get(l1Offset / clusterSize) === 0;
  return isFree && (await isInUse(found, next)) && (await looksLikeL1(found, next)) ? next : undefined;
}

async function isInUse({ stored, references }: Survey, { l1Offset }: Snapshot): Promise<boolean> {
  return ((await stored.read(l1Offset / references.image.geometry.clusterSize)) ?? 0) > 0;
}

async function looksLikeL1({ references }: Survey, { l1Offset, l1Entries }: Snapshot): Promise<boolean> {
  const { image } = references;
  const bytes = Buffer.alloc(l1Entries * 8);
  await image.file.read(bytes, l1Offset);
  for (let at = 0; at < bytes.length; at += 8) {
    const high = bytes.readUInt32BE(at);
    const low = bytes.readUInt32BE(at + 4);
    const table = hostOffset(high, low);
    if ((low & 511) !== 0 || table % image.geometry.clusterSize !== 0 || !references.isInFile(table))
      return false;
  }
  return true;
}

/** Entries wherever they begin. */
async function scan(found: Survey, bytes: Buffer): Promise<Snapshot[]> {
  const starts: number[] = [];
  for (let at = 0; at + SNAPSHOT_FIXED <= bytes.length; at += 8) {
    if (!beginsEntry(bytes, at, found)) continue;
    if (await isInUse(found, decodeHead(bytes, at))) starts.push(at);
  }
  const snapshots: Snapshot[] = [];
  for (const [index, start] of starts.entries()) {
    const entry = wholeEntry(
      bytes.subarray(start, starts[index + 1] ?? bytes.length),
      index < starts.length - 1,
    );
    if (entry !== undefined) snapshots.push(decodeSnapshot(entry, found.references.image.size));
  }
  return snapshots.slice(0, found.references.image.header.fields.nb_snapshots);
}

function beginsEntry(bytes: Buffer, at: number, { references }: Survey): boolean {
  const l1Offset = readU64(bytes, at);
  const { clusterSize } = references.image.geometry;
  if (!(l1Offset >= clusterSize) || l1Offset % clusterSize !== 0) return false;
  const head = decodeHead(bytes, at);
  return head.l1Entries > 0 && head.dateNsec < NANOSECONDS && whyUnusable(head, references) === undefined;
}

/** The fixed part of an entry alone. */
function decodeHead(bytes: Buffer, at: number): Snapshot {
  const head = Buffer.from(bytes.subarray(at, at + SNAPSHOT_FIXED));
  head.writeUInt32BE(0, 12);
  head.writeUInt32BE(0, 36);
  return decodeSnapshot(head, 0);
}

interface Lengths {
  readonly extra: number;
  readonly id: number;
  readonly name: number;
}

/** The entry with lengths that fit. @param isClosed it is `bytes` up to their end, but for padding */
function wholeEntry(bytes: Buffer, isClosed: boolean): Buffer | undefined {
  const given = { extra: bytes.readUInt32BE(36), id: bytes.readUInt16BE(12), name: bytes.readUInt16BE(14) };
  for (const { extra, id, name } of candidates(bytes, given, isClosed)) {
    const end = SNAPSHOT_FIXED + extra + id + name;
    if (end > bytes.length || id === 0 || !isPrintable(bytes.subarray(SNAPSHOT_FIXED + extra, end))) continue;
    const entry = Buffer.from(bytes.subarray(0, end));
    entry.writeUInt32BE(extra, 36);
    entry.writeUInt16BE(id, 12);
    entry.writeUInt16BE(name, 14);
    return entry;
  }
  return undefined;
}

function* candidates(bytes: Buffer, given: Lengths, isClosed: boolean): Generator<Lengths, void> {
  const extras = [given.extra, ...EXTRA_USUAL].filter((extra) => extra <= EXTRA_MAX);
  for (const extra of extras)
    if (textLength(bytes, extra, isClosed) === given.id + given.name) yield { ...given, extra };
  for (const extra of extras) {
    const length = textLength(bytes, extra, isClosed);
    if (given.id < length) yield { extra, id: given.id, name: length - given.id };
    if (given.name < length) yield { extra, id: length - given.name, name: given.name };
  }
}

/** Bytes of id and name together. */
function textLength(bytes: Buffer, extra: number, isClosed: boolean): number {
  const text = bytes.subarray(SNAPSHOT_FIXED + extra);
  if (!isClosed) {
    const end = text.indexOf(0);
    return end < 0 ? text.length : end;
  }
  let length = text.length;
  while (length > 0 && length > text.length - 8 && text[length - 1] === 0) length -= 1;
  return length;
}

const isPrintable = (text: Buffer): boolean => text.every((byte) => byte >= FIRST_PRINTABLE);

/** The one place among clusters that nothing names where all snapshots are; undefined where there is none, or more. */
async function search(found: Survey, count: number): Promise<Snapshot[] | undefined> {
  const { references, stored } = found;
  const { clusterSize } = references.image.geometry;
  const head = Buffer.alloc(SNAPSHOT_FIXED);
  let only: Snapshot[] | undefined;
  for (let cluster = 1; cluster < references.fileClusters; cluster += 1) {
    if (references.counts.get(cluster) !== 0 || !((await stored.read(cluster)) ?? 0)) continue;
    await references.image.file.read(head, cluster * clusterSize);
    if (!beginsEntry(head, 0, found)) continue;
    const snapshots = await snapshotsAt(found, cluster * clusterSize);
    if (snapshots.length !== count) continue;
    if (only !== undefined) return undefined;
    only = snapshots;
  }
  return only;
}
