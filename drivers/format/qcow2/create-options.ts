import type { CreateContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { takeDeclared } from '../../../src/block/options.ts';
import { LUKS_CREATE_OPTIONS } from '../../../src/crypto/luks-create.ts';
import type { OptionEntries } from '../../../src/block/schema.ts';
import { bool, choice, integer, optional, size, text } from '../../../src/block/schema.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';

/** QEMU's names. */
export const CREATE_OPTIONS = {
  cluster_size: optional(size('Bytes of a cluster, 512 to 2M'), 65536),
  compat: optional(choice(['1.1', '0.10', 'v3', 'v2'], 'Version 3 (1.1, v3) or 2 (0.10, v2)'), '1.1'),
  refcount_bits: optional(integer('Width of a reference count, 1 to 64', 1, 64), 16),
  lazy_refcounts: optional(bool('Postpone refcount updates'), false),
  extended_l2: optional(bool('Allocate subclusters, a 32nd of a cluster each'), false),
  compression_type: optional(choice(['zlib', 'zstd'], 'How compressed clusters are stored'), 'zlib'),
  backing_file: optional(text('Name of the backing file, as the image will hold it')),
  backing_fmt: optional(text('Format of the backing file')),
  data_file: optional(text('Name of an external data file, as the image will hold it')),
  data_file_raw: optional(bool('Keep the data file readable as a raw image'), false),
  preallocation: optional(
    choice(['off', 'metadata', 'falloc', 'full'], 'What is allocated from the start'),
    'off',
  ),
  'encrypt.format': optional(
    choice(['aes', 'luks'], 'Encrypt the disk: luks, or aes (weak, for old programs)'),
  ),
  ...prefixed('encrypt.', LUKS_CREATE_OPTIONS),
};

export interface NewQcow2 {
  readonly subject: string;
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly zstd: boolean;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean;
  readonly encryption: 'aes' | 'luks' | undefined;
  readonly preallocation: 'off' | 'metadata' | 'falloc' | 'full';
}

const L1_MAX = 32 * 1024 * 1024;
const BACKING_NAME_MAX = 1023;
const KEY_SECRET = 'encrypt.key-secret';

type Wanted = Pick<
  CreateContext<Readonly<Record<string, unknown>>>,
  'options' | 'size' | 'subject' | 'isAlone'
>;

/** The options, checked against each other. */
export function newImageOptions(context: Wanted): NewQcow2 {
  const { subject } = context;
  const given = takeDeclared({ ...context.options }, CREATE_OPTIONS, `"${subject}"`);
  const name = (key: string): string | undefined => {
    const value = given[key];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const preallocation = given['preallocation'];
  const image: NewQcow2 = {
    subject,
    size: alignUp(context.size, 512),
    version: given['compat'] === '0.10' || given['compat'] === 'v2' ? 2 : 3,
    clusterSize: Number(given['cluster_size']),
    refcountBits: Number(given['refcount_bits']),
    lazyRefcounts: given['lazy_refcounts'] === true,
    extendedL2: given['extended_l2'] === true,
    zstd: given['compression_type'] === 'zstd',
    backingFile: name('backing_file'),
    backingFormat: name('backing_fmt'),
    dataFile: name('data_file'),
    dataFileRaw: given['data_file_raw'] === true,
    encryption: encryptionOf(given['encrypt.format']),
    preallocation:
      preallocation === 'metadata' || preallocation === 'falloc' || preallocation === 'full'
        ? preallocation
        : 'off',
  };
  refuseBadSizes(image);
  refuseConflicts(image);
  if (context.isAlone === true && image.dataFile !== undefined)
    refuse(image, `data_file is "${image.dataFile}", but no further file can be made here`);
  if (given['data_file'] === '') refuse(image, 'data_file is empty, must be a name');
  refuseIdleEncryption(image, given);
  return image;
}

function prefixed(prefix: string, entries: OptionEntries): OptionEntries {
  return Object.fromEntries(Object.entries(entries).map(([name, schema]) => [`${prefix}${name}`, schema]));
}

function encryptionOf(given: unknown): NewQcow2['encryption'] {
  return given === 'aes' || given === 'luks' ? given : undefined;
}

function refuse(image: NewQcow2, what: string): never {
  throw new BlockError('EINVAL', `Cannot create image "${image.subject}": ${what}`);
}

function refuseBadSizes(image: NewQcow2): void {
  const { clusterSize, refcountBits, size: bytes, extendedL2, backingFile } = image;
  const least = extendedL2 ? 16384 : 512;
  if (!isPowerOfTwo(clusterSize) || clusterSize < least || clusterSize > 2097152) {
    const where = extendedL2 ? ' with extended_l2' : '';
    refuse(image, `cluster_size is ${clusterSize}, must be a power of two from ${least} to 2097152${where}`);
  }
  if (!isPowerOfTwo(refcountBits)) refuse(image, `refcount_bits is ${refcountBits}, must be a power of two`);
  const span = (clusterSize / (extendedL2 ? 16 : 8)) * clusterSize;
  if ((bytes / span) * 8 > L1_MAX) {
    const most = (L1_MAX / 8) * span;
    refuse(image, `the size is ${bytes}, must be at most ${most} with clusters of ${clusterSize} bytes`);
  }
  const nameLength = Buffer.byteLength(backingFile ?? '');
  if (nameLength > BACKING_NAME_MAX) {
    refuse(image, `the backing file name is ${nameLength} bytes long, must be at most ${BACKING_NAME_MAX}`);
  }
}

function refuseConflicts(image: NewQcow2): void {
  if (image.version === 2) {
    const needsThree: readonly (readonly [string, boolean])[] = [
      ['refcount_bits other than 16', image.refcountBits !== 16],
      ['lazy_refcounts', image.lazyRefcounts],
      ['extended_l2', image.extendedL2],
      ['compression_type=zstd', image.zstd],
      ['data_file', image.dataFile !== undefined],
    ];
    const [first] = needsThree.filter(([, wanted]) => wanted);
    if (first !== undefined) refuse(image, `${first[0]} needs compat=1.1`);
  }
  if (image.dataFileRaw && image.dataFile === undefined) refuse(image, 'data_file_raw needs data_file');
  if (image.dataFileRaw && image.backingFile !== undefined) {
    refuse(image, 'a raw data file and a backing file exclude each other');
  }
  if (image.encryption !== undefined && image.dataFileRaw) {
    refuse(image, 'an encrypted data file is not raw, data_file_raw must be off');
  }
  if (image.encryption !== undefined && image.preallocation !== 'off' && image.version === 2) {
    refuse(image, 'preallocation of an encrypted image needs compat=1.1');
  }
  if (image.backingFormat !== undefined && image.backingFile === undefined) {
    refuse(image, 'backing_fmt needs backing_file');
  }
  if (image.backingFile !== undefined && image.preallocation !== 'off' && !image.extendedL2) {
    const what = `preallocation=${image.preallocation} would hide the backing file`;
    refuse(image, `${what}, but with extended_l2=on`);
  }
}

/** Whoever asks for a cipher means an encrypted image. */
function refuseIdleEncryption(image: NewQcow2, given: Readonly<Record<string, unknown>>): void {
  if (image.encryption === 'luks') return;
  const usual = takeDeclared({}, CREATE_OPTIONS, 'a new image');
  const idle = Object.keys(LUKS_CREATE_OPTIONS)
    .map((name) => `encrypt.${name}`)
    .find((name) => given[name] !== usual[name] && !(image.encryption === 'aes' && name === KEY_SECRET));
  if (idle !== undefined) refuse(image, `${idle} needs encrypt.format=luks`);
}
