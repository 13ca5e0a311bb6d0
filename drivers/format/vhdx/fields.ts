import { readU64LE, writeU64LE } from '../../../src/util/bytes.ts';
import { readGuidMixed, writeGuidMixed } from '../../../src/util/guid.ts';

/**
 * How a field is stored; all numbers are little-endian. `u64` over 2^53 is NaN, so that every range check refuses it.
 * `count64` is a bigint: sequence numbers take all their bits.
 */
export type FieldKind = 'u16' | 'u32' | 'u64' | 'count64' | 'guid' | 'ascii4' | 'ascii8';

export interface FieldEntry {
  readonly field: string;
  readonly offset: number;
  readonly kind: FieldKind;
  readonly meaning: string;
}

export type FieldValue<Kind extends FieldKind> = Kind extends 'u16' | 'u32' | 'u64'
  ? number
  : Kind extends 'count64'
    ? bigint
    : string;

type Value = number | bigint | string;

export type Decoded<Fields extends readonly FieldEntry[]> = {
  -readonly [F in Fields[number] as F['field']]: FieldValue<F['kind']>;
};

/** The fields of a structure that begins at `base`. Checks nothing. */
export function decodeFields<const Fields extends readonly FieldEntry[]>(
  fields: Fields,
  bytes: Buffer,
  base = 0,
): Decoded<Fields> {
  const decoded: Record<string, Value> = {};
  for (const { field, offset, kind } of fields) decoded[field] = readField(bytes, kind, base + offset);
  return decoded as Decoded<Fields>;
}

/** Writes the fields of a structure that begins at `base`. */
export function encodeFields<const Fields extends readonly FieldEntry[]>(
  fields: Fields,
  values: Decoded<Fields>,
  bytes: Buffer,
  base = 0,
): void {
  const all: Readonly<Record<string, Value>> = values;
  for (const { field, offset, kind } of fields)
    writeField(bytes, kind, base + offset, all[field] ?? (kind === 'count64' ? 0n : 0));
}

function readField(bytes: Buffer, kind: FieldKind, at: number): Value {
  switch (kind) {
    case 'u16':
      return bytes.readUInt16LE(at);
    case 'u32':
      return bytes.readUInt32LE(at);
    case 'u64':
      return readU64LE(bytes, at);
    case 'count64':
      return bytes.readBigUInt64LE(at);
    case 'guid':
      return readGuidMixed(bytes, at);
    case 'ascii4':
      return bytes.toString('latin1', at, at + 4);
    case 'ascii8':
      return bytes.toString('latin1', at, at + 8);
  }
}

function writeField(bytes: Buffer, kind: FieldKind, at: number, value: Value): void {
  if (typeof value === 'string') {
    if (kind === 'guid') writeGuidMixed(bytes, value, at);
    else bytes.write(value, at, kind === 'ascii4' ? 4 : 8, 'latin1');
  } else if (typeof value === 'bigint') bytes.writeBigUInt64LE(value, at);
  else if (kind === 'u16') bytes.writeUInt16LE(value, at);
  else if (kind === 'u32') bytes.writeUInt32LE(value, at);
  else writeU64LE(bytes, value, at);
}
