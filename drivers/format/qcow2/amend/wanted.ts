import * as v from 'valibot';
import { BlockError } from '../../../../src/block/errors.ts';
import { size } from '../../../../src/block/schema.ts';
import { LUKS_AMEND_OPTIONS } from '../../../../src/crypto/luks-amend.ts';
import type { Image } from '../image.ts';

export interface Wanted {
  readonly version: number;
  readonly refcountBits: number;
  readonly lazy: boolean | undefined;
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean | undefined;
  readonly size: number | undefined;
  /** An empty name: none from now on. */
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
}

export type Refuse = (what: string) => never;

/** What stands before the names of the options of the key slots. */
export const KEYS = 'encrypt.';
const KEY_OPTIONS: readonly string[] = LUKS_AMEND_OPTIONS.map((name) => KEYS + name);
const NAMES = [
  ...['compat', 'lazy_refcounts', 'refcount_bits', 'size'],
  ...['backing_file', 'backing_fmt', 'data_file', 'data_file_raw'],
];

export function refuserOf(image: Image): Refuse {
  return (what) => {
    throw new BlockError('ENOTSUP', `Cannot amend image "${image.subject}": ${what}`);
  };
}

/** The options in their types; what is left out stays as it is. */
export function wantedOf(image: Image, options: Readonly<Record<string, string>>, refuse: Refuse): Wanted {
  const other = Object.keys(options).find((name) => !NAMES.includes(name) && !KEY_OPTIONS.includes(name));
  if (other !== undefined) refuse(`"${other}" can't be changed once an image is made, convert it`);
  const { compat, refcount_bits, size: bytes } = options;
  const bits = refcount_bits === undefined ? image.geometry.refcountBits : Number(refcount_bits);
  if (![1, 2, 4, 8, 16, 32, 64].includes(bits))
    refuse(`refcount_bits is ${refcount_bits}, must be a power of two from 1 to 64`);
  const flag = (name: string): boolean | undefined => flagOf(name, options[name], refuse);
  return {
    version: compat === undefined ? image.header.fields.version : versionOf(compat, refuse),
    refcountBits: bits,
    lazy: flag('lazy_refcounts'),
    dataFile: options['data_file'],
    dataFileRaw: flag('data_file_raw'),
    size: bytes === undefined ? undefined : sizeOf(bytes, refuse),
    backing: options['backing_file'],
    backingFormat: options['backing_fmt'],
  };
}

function flagOf(name: string, text: string | undefined, refuse: Refuse): boolean | undefined {
  if (text === undefined) return undefined;
  return text === 'on' || text === 'off' ? text === 'on' : refuse(`${name} is "${text}", must be on or off`);
}

function versionOf(compat: string, refuse: Refuse): number {
  if (compat === '1.1' || compat === 'v3') return 3;
  return compat === '0.10' || compat === 'v2' ? 2 : refuse(`compat is "${compat}", must be 0.10 or 1.1`);
}

function sizeOf(text: string, refuse: Refuse): number {
  const result = v.safeParse(size('size'), text);
  return result.success ? result.output : refuse(`size is "${text}", ${result.issues[0].message}`);
}
