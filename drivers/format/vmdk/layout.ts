/** On-disk structures as tables: decoding, encoding and the tests follow from them. All fields are little-endian. */

export interface Field {
  readonly at: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly meaning: string;
}
export type Layout = Readonly<Record<string, Field>>;
export type Fields<L extends Layout> = { [K in keyof L]: number };

/** Every VMDK structure counts in sectors of this many bytes, whatever the medium. */
export const SECTOR = 512;
/** More sectors than this are no size that a number can hold in bytes. */
export const MAX_SECTORS = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR);
/** A field of 64 bits with all bits set. Its nearest neighbours look the same as numbers; none of them is a valid value. */
export const ALL_ONES = 2 ** 64;

const ALL_ONES_BITS = 2n ** 64n - 1n;

/** The fields of a structure that starts at byte `base`; `bytes` must hold it whole. */
export function decode<L extends Layout>(layout: L, bytes: Buffer, base = 0): Fields<L> {
  const fields: Record<string, number> = {};
  for (const [name, field] of Object.entries(layout))
    fields[name] = read(bytes, base + field.at, field.width);
  return fields as Fields<L>;
}

/** Writes the fields given; the bytes between them stay as they are. */
export function encode<L extends Layout>(layout: L, bytes: Buffer, fields: Partial<Fields<L>>): void {
  for (const [name, field] of Object.entries(layout)) {
    const value = fields[name];
    if (value !== undefined) write(bytes, field.at, field.width, value);
  }
}

function read(bytes: Buffer, at: number, width: Field['width']): number {
  return width === 8 ? Number(bytes.readBigUInt64LE(at)) : bytes.readUIntLE(at, width);
}

function write(bytes: Buffer, at: number, width: Field['width'], value: number): void {
  if (width === 8) bytes.writeBigUInt64LE(value >= ALL_ONES ? ALL_ONES_BITS : BigInt(value), at);
  else bytes.writeUIntLE(value, at, width);
}
