import type { DataCodec, MappingDriver } from '../../../../src/block/driver.ts';
import { BlockError } from '../../../../src/block/errors.ts';
import type { Extent } from '../../../../src/block/extent.ts';
import { limits } from '../../../../src/block/limits.ts';
import type { Limits } from '../../../../src/block/limits.ts';
import { viewReader } from '../build.ts';
import type { Reader } from '../build.ts';
import type { Image } from '../image.ts';
import type { Snapshot } from '../snapshots.ts';

/** The L1 table of a snapshot, long enough for its disk. */
export async function readSnapshotL1(image: Image, snapshot: Snapshot): Promise<Buffer> {
  const { l1Offset, l1Entries, diskSize } = snapshot;
  const entries = Math.max(l1Entries, Math.ceil(diskSize / image.geometry.tableSpan));
  const bytes = Buffer.alloc(entries * 8);
  if (l1Entries > 0) await image.file.read(bytes.subarray(0, l1Entries * 8), l1Offset);
  return bytes;
}

/**
 * A snapshot as a disk that is read. Its tables are in nobody's way: as long as the snapshot exists its clusters are counted,
 * so whoever writes to the live disk writes elsewhere; only the flags of unshared clusters in shared tables may change, and
 * they mean nothing here.
 */
export class SnapshotDisk implements MappingDriver {
  readonly family = 'mapping';
  readonly readOnly = true;
  readonly limits: Limits;
  readonly size: number;
  readonly codec: DataCodec | undefined;
  private readonly image: Image;
  private readonly reader: Reader;
  private readonly closed: () => void;
  private isGone = false;

  private constructor(image: Image, parts: { size: number; reader: Reader; closed: () => void }) {
    this.image = image;
    this.size = parts.size;
    this.reader = parts.reader;
    this.closed = parts.closed;
    this.codec = image.codec;
    this.limits = limits({
      allocationUnit: image.geometry.clusterSize,
      requestAlignment: image.codec?.unit ?? 1,
    });
  }

  /** @param closed called when it is closed */
  static async open(image: Image, snapshot: Snapshot, closed: () => void): Promise<SnapshotDisk> {
    const { diskSize: size } = snapshot;
    const l1 = await readSnapshotL1(image, snapshot);
    const reader = viewReader(image, { l1, offset: snapshot.l1Offset, size });
    return new SnapshotDisk(image, { size, reader, closed });
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    if (this.isGone) this.refuse();
    return this.reader.map.tryMap(offset, max, out);
  }

  load(): Promise<void> {
    return this.image.need.load();
  }

  readOpaque(bytes: Buffer, offset: number): Promise<void> {
    return this.reader.compressed.read(bytes, offset);
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.reader.compressed.tryRead(bytes, at, length, offset);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.closed();
    return Promise.resolve();
  }

  /** The image is closed: there is nothing to read from any more. */
  vanish(): void {
    this.isGone = true;
  }

  private refuse(): never {
    const text = `Cannot read a snapshot of image "${this.image.subject}": the image is closed`;
    throw new BlockError('ENODEV', text);
  }
}
