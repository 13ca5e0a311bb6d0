/** Entries of the snapshot table. Specification: "Snapshots". */
import { alignUp } from '../../../../src/util/sizes.ts';
import type { Snapshot } from '../snapshots.ts';
import { readU64, showU64, writeU64 } from '../u64.ts';

/** Bytes of an entry without extra data, id and name. */
export const SNAPSHOT_FIXED = 40;
/** Extra data up to the size of the disk: version 3 must have it. */
const EXTRA_REQUIRED = 16;
const EXTRA_KNOWN = 24;
const NO_ICOUNT = 2n ** 64n - 1n;
const U32_MAX = 2 ** 32 - 1;

/** @param size bytes of the image's disk: that of entries that do not tell their own */
export function decodeSnapshot(entry: Buffer, size: number): Snapshot {
  const extra = entry.readUInt32BE(36);
  const idAt = SNAPSHOT_FIXED + extra;
  const nameAt = idAt + entry.readUInt16BE(12);
  const idBytes = Buffer.from(entry.subarray(idAt, nameAt));
  const nameBytes = Buffer.from(entry.subarray(nameAt, nameAt + entry.readUInt16BE(14)));
  return {
    l1Offset: readU64(entry, 0),
    l1Entries: entry.readUInt32BE(8),
    id: idBytes.toString('utf8'),
    name: nameBytes.toString('utf8'),
    dateSec: entry.readUInt32BE(16),
    dateNsec: entry.readUInt32BE(20),
    vmClockNsec: entry.readBigUInt64BE(24),
    vmStateSize: extra >= 8 ? readU64(entry, 40) : entry.readUInt32BE(32),
    diskSize: extra >= EXTRA_REQUIRED ? readU64(entry, 48) : size,
    ...(extra >= EXTRA_KNOWN && showU64(entry, 56) !== `${NO_ICOUNT}`
      ? { icount: entry.readBigUInt64BE(56) }
      : {}),
    idBytes,
    nameBytes,
    extra: Buffer.from(entry.subarray(SNAPSHOT_FIXED, idAt)),
  };
}

/** The entry as it stands in the table, padded to a multiple of 8. Extra data that nobody here knows stays as it is. */
export function encodeSnapshot(snapshot: Snapshot): Buffer {
  const { extra, vmStateSize, idBytes: id, nameBytes: name } = snapshot;
  const extraLength = Math.max(EXTRA_REQUIRED, extra.length);
  const idAt = SNAPSHOT_FIXED + extraLength;
  const entry = Buffer.alloc(alignUp(idAt + id.length + name.length, 8));
  writeU64(entry, snapshot.l1Offset, 0);
  entry.writeUInt32BE(snapshot.l1Entries, 8);
  entry.writeUInt16BE(id.length, 12);
  entry.writeUInt16BE(name.length, 14);
  entry.writeUInt32BE(snapshot.dateSec, 16);
  entry.writeUInt32BE(snapshot.dateNsec, 20);
  entry.writeBigUInt64BE(snapshot.vmClockNsec, 24);
  entry.writeUInt32BE(vmStateSize > U32_MAX ? 0 : vmStateSize, 32);
  entry.writeUInt32BE(extraLength, 36);
  extra.copy(entry, SNAPSHOT_FIXED);
  writeU64(entry, vmStateSize, 40);
  writeU64(entry, snapshot.diskSize, 48);
  id.copy(entry, idAt);
  name.copy(entry, idAt + id.length);
  return entry;
}

/** The extra data of a new snapshot: sizes are filled in when it is stored; no instruction count. */
export function newExtra(): Buffer {
  const extra = Buffer.alloc(EXTRA_KNOWN);
  extra.writeBigUInt64BE(NO_ICOUNT, 16);
  return extra;
}
