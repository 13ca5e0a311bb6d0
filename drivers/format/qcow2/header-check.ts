import { BlockError } from '../../../src/block/errors.ts';
import type { ErrnoCode } from '../../../src/block/errors.ts';
import { LUKS_HEADER_BYTES } from '../../../src/crypto/luks-header.ts';
import { CIPHER_SECTOR } from '../../../src/crypto/sector-cipher.ts';
import { CryptMethod, encryptionHeaderPlace } from './encryption.ts';
import { ExtensionType, featureName } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import { Autoclear, bitsOf, Incompatible, INCOMPATIBLE_KNOWN } from './features.ts';
import { MAGIC, V3_LENGTH } from './header.ts';
import type { Header } from './header.ts';

/** Bounds on what is allocated on the word of a header field. */
const L1_MAX = 32 * 1024 * 1024;
const REFCOUNT_TABLE_MAX = 8 * 1024 * 1024;
const SNAPSHOTS_MAX = 65536;
const BACKING_NAME_MAX = 1023;
const ENCRYPTION_HEADER_MAX = 64 * 1024 * 1024;

type Refuse = (what: string, wanted: string, code?: ErrnoCode) => never;

/** What must hold before any other part of the file is looked at. */
export function checkHeaderBasics(header: Header, subject: string): void {
  const refuse = refuser(subject);
  if (header.magic !== MAGIC) refuse(`magic is 0x${header.magic.toString(16)}`, 'must be 0x514649fb');
  if (header.version !== 2 && header.version !== 3)
    refuse(`version is ${header.version}`, 'must be 2 or 3', 'ENOTSUP');
  const bits = header.cluster_bits;
  if (bits < 9 || bits > 21) refuse(`cluster_bits is ${bits}`, 'must be 9 to 21');
  if (header.version === 2) return;
  const length = header.header_length;
  if (length < V3_LENGTH || length % 8 !== 0 || length > 2 ** bits) {
    refuse(
      `header_length is ${length}`,
      `must be a multiple of 8 from ${V3_LENGTH} to the cluster size ${2 ** bits}`,
    );
  }
}

/**
 * Every rule of the specification that the header alone, with its extensions, can break.
 * @param repairs what a repair makes anew, or gives up, is not looked at: refcounts and snapshots
 */
export function checkHeader(
  header: Header,
  extensions: readonly HeaderExtension[],
  { subject, repairs }: { readonly subject: string; readonly repairs: boolean },
): void {
  const refuse = refuser(subject);
  checkFeatures(header, extensions, refuse);
  checkEncryption(header, extensions, refuse);
  if (header.refcount_order > 6) refuse(`refcount_order is ${header.refcount_order}`, 'must be 0 to 6');
  if (Number.isNaN(header.size)) refuse('size is over 2^53 bytes', 'must be less');
  checkL1(header, refuse);
  checkBackingName(header, refuse);
  if (repairs) return;
  checkRefcountTable(header, refuse);
  checkSnapshotFields(header, refuse);
}

function refuser(subject: string): Refuse {
  return (what, wanted, code = 'EINVAL') => {
    throw new BlockError(code, `Cannot open image "${subject}": ${what}, ${wanted}`);
  };
}

function checkFeatures(header: Header, extensions: readonly HeaderExtension[], refuse: Refuse): void {
  const unknown = bitsOf(header.incompatible_features & ~INCOMPATIBLE_KNOWN);
  const names = extensions.find(({ type }) => type === ExtensionType.featureNames)?.data;
  if (unknown.length > 0) {
    const list = unknown.map(
      (bit) => featureName(names, 'incompatible', bit) ?? `unknown incompatible feature bit ${bit}`,
    );
    refuse(
      `the image uses ${list.map((name) => `"${name}"`).join(', ')}`,
      'which is not supported',
      'ENOTSUP',
    );
  }
  const typeBit = (header.incompatible_features & Incompatible.compressionType) !== 0n;
  const type = header.compression_type;
  if (type > 1) refuse(`compression_type is ${type}`, 'must be 0 (zlib) or 1 (zstd)', 'ENOTSUP');
  if (typeBit !== (type !== 0)) {
    refuse(
      `compression_type is ${type}`,
      `must ${typeBit ? 'not ' : ''}be 0 with the feature bit ${typeBit ? 'set' : 'clear'}`,
    );
  }
  const extended = (header.incompatible_features & Incompatible.extendedL2) !== 0n;
  if (extended && header.cluster_bits < 14) {
    refuse(`cluster_bits is ${header.cluster_bits}`, 'must be at least 14 with extended L2 entries');
  }
  const dataFile = (header.incompatible_features & Incompatible.dataFile) !== 0n;
  const raw = (header.autoclear_features & Autoclear.rawDataFile) !== 0n;
  if (raw && !dataFile)
    refuse('the raw external data bit is set', 'must be clear without an external data file');
  if (raw && header.backing_file_offset !== 0)
    refuse('data_file_raw is set', 'must not be with a backing file');
}

/** Specification: "Full disk encryption header pointer". It is there if and only if the method needs it. */
function checkEncryption(header: Header, extensions: readonly HeaderExtension[], refuse: Refuse): void {
  const { crypt_method: method } = header;
  if (method > CryptMethod.luks)
    refuse(`crypt_method is ${method}`, 'must be 0, 1 (AES) or 2 (LUKS)', 'ENOTSUP');
  if (method !== CryptMethod.none && header.size % CIPHER_SECTOR !== 0)
    refuse(`size is ${header.size}`, `must be a multiple of ${CIPHER_SECTOR} in an encrypted image`);
  if (method !== CryptMethod.luks) return;
  const pointers = extensions.filter(({ type }) => type === ExtensionType.encryption);
  if (pointers.length !== 1) {
    refuse(`there are ${pointers.length} encryption header extensions`, 'must be one with LUKS encryption');
  }
  const { offset, length } = encryptionHeaderPlace(extensions);
  const cluster = 2 ** header.cluster_bits;
  if (!(offset >= cluster && offset < 2 ** 53) || offset % cluster !== 0) {
    refuse(
      `the encryption header is at ${Number.isNaN(offset) ? 'over 2^53' : offset}`,
      `must be at a multiple of the cluster size ${cluster}, behind the header`,
    );
  }
  if (!(length >= LUKS_HEADER_BYTES && length <= ENCRYPTION_HEADER_MAX)) {
    refuse(
      `the encryption header has ${Number.isNaN(length) ? 'over 2^53' : length} bytes`,
      `must have ${LUKS_HEADER_BYTES} to ${ENCRYPTION_HEADER_MAX}`,
    );
  }
}

function checkL1(header: Header, refuse: Refuse): void {
  const cluster = 2 ** header.cluster_bits;
  if (header.l1_size * 8 > L1_MAX) {
    refuse(
      `L1 table too big: l1_size is ${header.l1_size} entries`,
      `must be at most ${L1_MAX / 8}`,
      'EFBIG',
    );
  }
  const entrySize = (header.incompatible_features & Incompatible.extendedL2) === 0n ? 8 : 16;
  const needed = Math.ceil(header.size / cluster / (cluster / entrySize));
  if (header.l1_size < needed) {
    refuse(
      `L1 table is too small: l1_size is ${header.l1_size} entries`,
      `must be at least ${needed} for ${header.size} bytes`,
    );
  }
  if (header.l1_size > 0) checkOffset(header, 'l1_table_offset', refuse);
}

function checkRefcountTable(header: Header, refuse: Refuse): void {
  const max = REFCOUNT_TABLE_MAX / 2 ** header.cluster_bits;
  const clusters = header.refcount_table_clusters;
  if (clusters < 1 || clusters > Math.max(max, 1)) {
    refuse(
      `refcount_table_clusters is ${clusters}`,
      `must be 1 to ${Math.max(max, 1)}`,
      clusters < 1 ? 'EINVAL' : 'EFBIG',
    );
  }
  checkOffset(header, 'refcount_table_offset', refuse);
}

function checkSnapshotFields(header: Header, refuse: Refuse): void {
  const count = header.nb_snapshots;
  if (count > SNAPSHOTS_MAX) refuse(`nb_snapshots is ${count}`, `must be at most ${SNAPSHOTS_MAX}`, 'EFBIG');
  if (count === 0) return;
  checkOffset(header, 'snapshots_offset', refuse);
  if ((header.incompatible_features & Incompatible.dataFile) === 0n) return;
  refuse(`nb_snapshots is ${count}`, 'must be 0 with an external data file');
}

function checkBackingName(header: Header, refuse: Refuse): void {
  const { backing_file_offset: offset, backing_file_size: size } = header;
  if (offset === 0) return;
  const cluster = 2 ** header.cluster_bits;
  if (!(offset < cluster))
    refuse(`backing_file_offset is ${offset}`, `must be inside the first cluster (${cluster} bytes)`);
  const max = Math.min(BACKING_NAME_MAX, cluster - offset);
  if (size > max) refuse(`backing_file_size is ${size}`, `must be at most ${max}`);
}

type OffsetField = 'l1_table_offset' | 'refcount_table_offset' | 'snapshots_offset';

function checkOffset(header: Header, field: OffsetField, refuse: Refuse): void {
  const offset = header[field];
  const cluster = 2 ** header.cluster_bits;
  if (!(offset >= cluster && offset < 2 ** 53) || offset % cluster !== 0) {
    refuse(
      `${field} is ${Number.isNaN(offset) ? 'over 2^53' : offset}`,
      `must be a multiple of the cluster size ${cluster}, behind the header`,
    );
  }
}
