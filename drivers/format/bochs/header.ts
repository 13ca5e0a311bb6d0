import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64LE } from '../../../src/util/bytes.ts';
import { isPowerOfTwo } from '../../../src/util/sizes.ts';

export const REDOLOG_MAGIC = 'Bochs Virtual HD Image';
export const SPARSE_MAGIC = 0x02468ace;
export const HEADER_LENGTH = 512;
const SPARSE_HEADER_LENGTH = 256;
const VERSION_1 = 0x00010000;
const VERSION_2 = 0x00020000;
const SIZE_MAX = 2 ** 53 - 2 ** 40;
const UNIT_MAX = 64 * 1024 * 1024;

/** Little-endian, behind three texts (magic 32 bytes, type 16, subtype 16). Bochs developer guide: "disk image formats". */
export const REDOLOG_FIELDS = [
  { field: 'version', offset: 64, width: 4, meaning: '0x00010000 or 0x00020000' },
  { field: 'header', offset: 68, width: 4, meaning: 'bytes of the header: the catalog follows' },
  { field: 'catalog', offset: 72, width: 4, meaning: 'entries of the catalog' },
  { field: 'bitmap', offset: 76, width: 4, meaning: 'bytes of the bitmap of an extent: a bit a sector' },
  { field: 'extent', offset: 80, width: 4, meaning: 'bytes of an extent' },
] as const;

export const SPARSE_FIELDS = [
  { field: 'magic', offset: 0, width: 4, meaning: '0x02468ace' },
  { field: 'version', offset: 4, width: 4, meaning: '1 or 2' },
  { field: 'pagesize', offset: 8, width: 4, meaning: 'bytes of a page, a power of two' },
  { field: 'numpages', offset: 12, width: 4, meaning: 'entries of the page table' },
] as const;

/** How both layouts find a unit (extent, page) of the disk. */
export interface BochsLayout {
  readonly kind: 'redolog' | 'sparse';
  /** Bytes of the disk. */
  readonly size: number;
  readonly unit: number;
  readonly tableOffset: number;
  readonly tableEntries: number;
  readonly dataOffset: number;
  /** Bytes in the file from one allocated unit to the next. */
  readonly stride: number;
  /** Bytes before the data of a unit, taken by its bitmap; 0 without one. */
  readonly bitmapBytes: number;
}

export function readLayout(bytes: Buffer, subject: string): BochsLayout {
  if (bytes.readUInt32LE(0) === SPARSE_MAGIC) return sparseLayout(bytes, subject);
  const magic = textAt(bytes, 0, 32);
  if (magic !== REDOLOG_MAGIC)
    refuseImage(subject, `magic is ${JSON.stringify(magic)}`, `must be "${REDOLOG_MAGIC}"`);
  return redologLayout(bytes, subject);
}

export function textAt(bytes: Buffer, at: number, length: number): string {
  const text = bytes.toString('latin1', at, at + length);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

function redologLayout(bytes: Buffer, subject: string): BochsLayout {
  const kind = `${textAt(bytes, 32, 16)}/${textAt(bytes, 48, 16)}`;
  if (kind !== 'Redolog/Growing')
    refuseImage(subject, `type is ${JSON.stringify(kind)}`, 'must be Redolog/Growing', 'ENOTSUP');
  const [version = 0, header = 0, catalog = 0, bitmap = 0, extent = 0] = REDOLOG_FIELDS.map(({ offset }) =>
    bytes.readUInt32LE(offset),
  );
  if (version !== VERSION_1 && version !== VERSION_2) {
    refuseImage(subject, `version is 0x${version.toString(16)}`, 'must be 0x10000 or 0x20000', 'ENOTSUP');
  }
  const size = readU64LE(bytes, version === VERSION_1 ? 84 : 88);
  if (header < 84) refuseImage(subject, `header is ${header} bytes`, 'must be at least 84');
  if (extent < 512 || extent % 512 !== 0 || extent > UNIT_MAX) {
    refuseImage(subject, `extent is ${extent} bytes`, `must be a multiple of 512 up to ${UNIT_MAX}`);
  }
  if (bitmap * 8 * 512 < extent || bitmap > UNIT_MAX / 512) {
    refuseImage(
      subject,
      `bitmap is ${bitmap} bytes`,
      `must be ${Math.ceil(extent / 4096)} to ${UNIT_MAX / 512} for extents of ${extent}`,
    );
  }
  if (!(size <= SIZE_MAX) || size > catalog * extent) {
    refuseImage(
      subject,
      `disk is ${size} bytes`,
      `must be at most ${catalog * extent}, what the catalog can hold`,
    );
  }
  const bitmapBytes = Math.ceil(bitmap / 512) * 512;
  return {
    kind: 'redolog',
    size,
    unit: extent,
    tableOffset: header,
    tableEntries: catalog,
    dataOffset: header + catalog * 4,
    stride: bitmapBytes + extent,
    bitmapBytes,
  };
}

function sparseLayout(bytes: Buffer, subject: string): BochsLayout {
  const [, version = 0, pageSize = 0, pages = 0] = SPARSE_FIELDS.map(({ offset }) =>
    bytes.readUInt32LE(offset),
  );
  if (version !== 1 && version !== 2)
    refuseImage(subject, `version is ${version}`, 'must be 1 or 2', 'ENOTSUP');
  if (!isPowerOfTwo(pageSize) || pageSize < 512 || pageSize > UNIT_MAX) {
    refuseImage(subject, `pagesize is ${pageSize}`, `must be a power of two from 512 to ${UNIT_MAX}`);
  }
  const size = version === 1 ? pages * pageSize : readU64LE(bytes, 16);
  if (!(size <= SIZE_MAX) || size > pages * pageSize) {
    refuseImage(
      subject,
      `disk is ${size} bytes`,
      `must be at most ${pages * pageSize}, what the page table can hold`,
    );
  }
  return {
    kind: 'sparse',
    size,
    unit: pageSize,
    tableOffset: SPARSE_HEADER_LENGTH,
    tableEntries: pages,
    dataOffset: Math.ceil((SPARSE_HEADER_LENGTH + pages * 4) / pageSize) * pageSize,
    stride: pageSize,
    bitmapBytes: 0,
  };
}
