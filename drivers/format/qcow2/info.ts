import type { ImageInfo } from '../../../src/block/driver.ts';
import type { SnapshotInfo } from '../../../src/block/snapshot-capability.ts';
import { Autoclear, Incompatible } from './features.ts';
import { extensionText, ExtensionType } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import type { Header } from './header.ts';

export interface NamesInImage {
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
  readonly dataFile: string | undefined;
}

/** The file names that the image holds. `head` is its first cluster, as far as it was read. */
export function namesInImage(
  header: Header,
  extensions: readonly HeaderExtension[],
  head: Buffer,
): NamesInImage {
  const { backing_file_offset: at, backing_file_size: length } = header;
  const hasBacking = at !== 0 && length > 0;
  return {
    backing: hasBacking ? head.toString('utf8', at, at + length) : undefined,
    backingFormat: hasBacking ? extensionText(extensions, ExtensionType.backingFormat) : undefined,
    dataFile: extensionText(extensions, ExtensionType.dataFile),
  };
}

/** What `info` shows, under QEMU's keys. */
export function imageInfo(
  header: Header,
  names: NamesInImage & {
    readonly encrypt?: Readonly<Record<string, unknown>> | undefined;
    readonly bitmaps?: readonly Readonly<Record<string, unknown>>[];
  },
  snapshots: readonly SnapshotInfo[],
): ImageInfo {
  const has = (bit: bigint) => (header.incompatible_features & bit) !== 0n;
  return {
    clusterSize: 2 ** header.cluster_bits,
    dirty: has(Incompatible.dirty),
    encrypted: header.crypt_method !== 0,
    ...(names.backing === undefined ? {} : { backingFilename: names.backing }),
    ...(names.backingFormat === undefined ? {} : { backingFormat: names.backingFormat }),
    snapshots: snapshots.map(plainSnapshot),
    formatSpecific: {
      ...(header.version === 2 ? versionTwo(header) : versionThree(header, names)),
      ...(names.bitmaps === undefined || names.bitmaps.length === 0 ? {} : { bitmaps: names.bitmaps }),
      ...(names.encrypt === undefined ? {} : { encrypt: names.encrypt }),
    },
  };
}

/** Compression other than zlib needs version 3, which always tells it; version 2 has nothing more to tell. */
function versionTwo(header: Header): Record<string, unknown> {
  return { compat: '0.10', 'compression-type': 'zlib', 'refcount-bits': 2 ** header.refcount_order };
}

function versionThree(header: Header, names: NamesInImage): Record<string, unknown> {
  const has = (bit: bigint) => (header.incompatible_features & bit) !== 0n;
  const dataFile = has(Incompatible.dataFile)
    ? {
        'data-file': names.dataFile,
        'data-file-raw': (header.autoclear_features & Autoclear.rawDataFile) !== 0n,
      }
    : {};
  return {
    compat: '1.1',
    'compression-type': header.compression_type === 1 ? 'zstd' : 'zlib',
    'lazy-refcounts': (header.compatible_features & 1n) !== 0n,
    'refcount-bits': 2 ** header.refcount_order,
    corrupt: has(Incompatible.corrupt),
    'extended-l2': has(Incompatible.extendedL2),
    ...dataFile,
  };
}

/** A snapshot without what only this format has. */
export function plainSnapshot(snapshot: SnapshotInfo): SnapshotInfo {
  const { id, name, vmStateSize, diskSize, dateSec, dateNsec, vmClockNsec, icount } = snapshot;
  return {
    id,
    name,
    vmStateSize,
    diskSize,
    dateSec,
    dateNsec,
    vmClockNsec,
    ...(icount === undefined ? {} : { icount }),
  };
}
