import type { Child } from '../../../src/block/child.ts';
import type { SnapshotInfo } from '../../../src/block/snapshot-capability.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { Header } from './header.ts';
import { decodeSnapshot, SNAPSHOT_FIXED } from './snapshot/entry.ts';

export const EXTRA_MAX = 1024;
export const SNAPSHOT_TABLE_MAX = 64 * 1024 * 1024;
export const SNAPSHOT_L1_MAX = 32 * 1024 * 1024;
const CHUNK = 1024 * 1024;

export interface Snapshot extends SnapshotInfo {
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** As they stand in the image, also where they are no text. */
  readonly idBytes: Buffer;
  readonly nameBytes: Buffer;
  readonly extra: Buffer;
}

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** Bytes. */
  readonly length: number;
}

/** The snapshot table of an open image. */
export class SnapshotList implements SnapshotTable {
  snapshots: readonly Snapshot[];
  length: number;

  constructor(snapshots: readonly Snapshot[], length: number) {
    this.snapshots = snapshots;
    this.length = length;
  }

  /** The table on disk is another one now. */
  replace(next: SnapshotTable): void {
    this.snapshots = next.snapshots;
    this.length = next.length;
  }
}

/** The snapshot table. Rejects when an entry breaks the specification or the whole takes over 64 MiB. */
export async function readSnapshots(file: Child, header: Header, subject: string): Promise<SnapshotList> {
  const reader = new EntryReader(file, header.snapshots_offset, subject);
  const snapshots: Snapshot[] = [];
  for (let index = 0; index < header.nb_snapshots; index += 1) {
    const fixed = Buffer.from(await reader.peek(SNAPSHOT_FIXED));
    const extra = fixed.readUInt32BE(36);
    if (extra > EXTRA_MAX)
      reader.refuse(`extra data of snapshot ${index} is ${extra} bytes, must be at most ${EXTRA_MAX}`);
    const length = SNAPSHOT_FIXED + extra + fixed.readUInt16BE(12) + fixed.readUInt16BE(14);
    const snapshot = decodeSnapshot(await reader.peek(length), header.size);
    checkSnapshot(snapshot, header, reader);
    snapshots.push(snapshot);
    reader.skip(alignUp(length, 8));
  }
  return new SnapshotList(snapshots, reader.consumed);
}

function checkSnapshot(snapshot: Snapshot, header: Header, reader: EntryReader): void {
  const { name, l1Offset, l1Entries, diskSize, vmStateSize } = snapshot;
  if (Number.isNaN(diskSize) || Number.isNaN(vmStateSize))
    reader.refuse(`snapshot "${name}" has a disk or VM state of over 2^53 bytes`);
  const cluster = 2 ** header.cluster_bits;
  if (!(l1Offset >= cluster) || l1Offset % cluster !== 0) {
    reader.refuse(
      `L1 table of snapshot "${name}" is at ${l1Offset}, must be a multiple of the cluster size ${cluster}`,
    );
  }
  if (l1Entries * 8 > SNAPSHOT_L1_MAX) {
    reader.refuse(
      `L1 table of snapshot "${name}" has ${l1Entries} entries, must be at most ${SNAPSHOT_L1_MAX / 8}`,
    );
  }
}

/** Reads the table in chunks, since only its entries tell how long it is. */
class EntryReader {
  consumed = 0;
  private readonly file: Child;
  private readonly start: number;
  private readonly subject: string;
  private buffer = Buffer.alloc(0);

  constructor(file: Child, start: number, subject: string) {
    this.file = file;
    this.start = start;
    this.subject = subject;
  }

  /** The next `length` bytes. */
  async peek(length: number): Promise<Buffer> {
    if (this.consumed + length > SNAPSHOT_TABLE_MAX)
      this.refuse(`the snapshot table is over ${SNAPSHOT_TABLE_MAX} bytes long`);
    if (this.buffer.length < length) {
      const more = Buffer.alloc(Math.max(CHUNK, length) - this.buffer.length);
      await this.file.read(more, this.start + this.consumed + this.buffer.length);
      this.buffer = Buffer.concat([this.buffer, more]);
    }
    return this.buffer.subarray(0, length);
  }

  skip(length: number): void {
    this.buffer = this.buffer.subarray(Math.min(length, this.buffer.length));
    this.consumed += length;
  }

  refuse(what: string): never {
    throw new BlockError('EINVAL', `Cannot open image "${this.subject}": ${what}`);
  }
}
