/**
 * The structures of an empty image:
 *
 *   header | refcount table | refcount blocks | L1 table | LUKS header
 */
import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { NewQcow2 } from './create-options.ts';
import { CryptMethod } from './encryption.ts';
import { ExtensionType } from './extensions.ts';
import { Autoclear, Compatible, FEATURE_KINDS, FEATURES, Incompatible } from './features.ts';
import { encodeField, MAGIC, V2_LENGTH } from './header.ts';
import type { Header } from './header.ts';
import { writeRefcount } from './refcount-entry.ts';
import { writeU64 } from './u64.ts';

/** With compression_type and its padding. */
const V3_HEADER_LENGTH = 112;
const FEATURE_ENTRY = 48;

export interface NewLayout {
  /** All in clusters. */
  readonly tableClusters: number;
  readonly blocks: number;
  readonly l1Clusters: number;
  readonly l1Entries: number;
}

function layOut(image: NewQcow2, luksClusters: number): NewLayout {
  const { clusterSize, refcountBits } = image;
  const span = (clusterSize / (image.extendedL2 ? 16 : 8)) * clusterSize;
  const l1Entries = Math.max(1, Math.ceil(image.size / span));
  const l1Clusters = Math.ceil((l1Entries * 8) / clusterSize);
  const perBlock = (clusterSize * 8) / refcountBits;
  let blocks = 1;
  for (;;) {
    const tableClusters = Math.ceil((blocks * 8) / clusterSize);
    const needed = Math.ceil((1 + tableClusters + blocks + l1Clusters + luksClusters) / perBlock);
    if (needed <= blocks) return { tableClusters, blocks, l1Clusters, l1Entries };
    blocks = needed;
  }
}

/** The bytes of the whole empty image. */
export function encodeImage(image: NewQcow2, luks?: Buffer): Buffer {
  const { clusterSize, refcountBits } = image;
  const luksClusters = Math.ceil((luks?.length ?? 0) / clusterSize);
  const layout = layOut(image, luksClusters);
  const { tableClusters, blocks, l1Clusters } = layout;
  const luksAt = 1 + tableClusters + blocks + l1Clusters;
  const used = luksAt + luksClusters;
  const bytes = Buffer.alloc(used * clusterSize);
  const pointer = luks === undefined ? undefined : { offset: luksAt * clusterSize, length: luks.length };
  encodeHead(image, layout, pointer).copy(bytes);
  luks?.copy(bytes, luksAt * clusterSize);
  const perBlock = (clusterSize * 8) / refcountBits;
  for (let block = 0; block < blocks; block += 1) {
    const offset = (1 + tableClusters + block) * clusterSize;
    writeU64(bytes, offset, clusterSize + block * 8);
    const refcounts = bytes.subarray(offset, offset + clusterSize);
    const count = Math.min(perBlock, used - block * perBlock);
    for (let entry = 0; entry < count; entry += 1) writeRefcount(refcounts, entry, refcountBits, 1);
  }
  return bytes;
}

/** The first cluster: header, extensions, backing file name. */
function encodeHead(
  image: NewQcow2,
  layout: NewLayout,
  luks: { offset: number; length: number } | undefined,
): Buffer {
  const extensions = Buffer.concat([
    ...(luks === undefined ? [] : [encodeExtension(ExtensionType.encryption, pointerTo(luks))]),
    ...extensionsOf(image),
    encodeExtension(ExtensionType.end, Buffer.alloc(0)),
  ]);
  const length = image.version === 2 ? V2_LENGTH : V3_HEADER_LENGTH;
  const name = Buffer.from(image.backingFile ?? '');
  const nameAt = length + extensions.length;
  if (nameAt + name.length > image.clusterSize) {
    const what = `header, extensions and names take ${nameAt + name.length} bytes, must fit a cluster of ${image.clusterSize}`;
    throw new BlockError('EINVAL', `Cannot create image "${image.subject}": ${what}`);
  }
  const head = Buffer.alloc(image.clusterSize);
  encodeHeader(head, image, layout, name.length > 0 ? { offset: nameAt, size: name.length } : undefined);
  extensions.copy(head, length);
  name.copy(head, nameAt);
  return head;
}

function encodeHeader(
  head: Buffer,
  image: NewQcow2,
  layout: NewLayout,
  name: { offset: number; size: number } | undefined,
): void {
  const { clusterSize } = image;
  const fields: Partial<Header> = {
    magic: MAGIC,
    version: image.version,
    backing_file_offset: name?.offset ?? 0,
    backing_file_size: name?.size ?? 0,
    cluster_bits: Math.log2(clusterSize),
    size: image.size,
    crypt_method: CryptMethod[image.encryption ?? 'none'],
    l1_size: layout.l1Entries,
    l1_table_offset: (1 + layout.tableClusters + layout.blocks) * clusterSize,
    refcount_table_offset: clusterSize,
    refcount_table_clusters: layout.tableClusters,
  };
  const three: Partial<Header> = {
    incompatible_features:
      (image.dataFile === undefined ? 0n : Incompatible.dataFile) |
      (image.zstd ? Incompatible.compressionType : 0n) |
      (image.extendedL2 ? Incompatible.extendedL2 : 0n),
    compatible_features: image.lazyRefcounts ? Compatible.lazyRefcounts : 0n,
    autoclear_features: image.dataFileRaw ? Autoclear.rawDataFile : 0n,
    refcount_order: Math.log2(image.refcountBits),
    header_length: V3_HEADER_LENGTH,
    compression_type: image.zstd ? 1 : 0,
  };
  const all = image.version === 2 ? fields : { ...fields, ...three };
  for (const [field, value] of Object.entries(all)) encodeField(head, field as keyof Header, value);
}

function extensionsOf(image: NewQcow2): Buffer[] {
  const found: Buffer[] = [];
  if (image.backingFormat !== undefined) {
    found.push(encodeExtension(ExtensionType.backingFormat, Buffer.from(image.backingFormat)));
  }
  if (image.dataFile !== undefined) {
    found.push(encodeExtension(ExtensionType.dataFile, Buffer.from(image.dataFile)));
  }
  const names = encodeExtension(ExtensionType.featureNames, featureNames());
  // It is a courtesy, and too long for the header of a 512-byte cluster.
  if (image.version === 3 && image.clusterSize >= 4096) found.push(names);
  return found;
}

function pointerTo({ offset, length }: { offset: number; length: number }): Buffer {
  const data = Buffer.alloc(16);
  writeU64(data, offset, 0);
  writeU64(data, length, 8);
  return data;
}

/** As it stands in the first cluster: type, length, padded data. */
export function encodeExtension(type: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(8 + alignUp(data.length, 8));
  bytes.writeUInt32BE(type, 0);
  bytes.writeUInt32BE(data.length, 4);
  data.copy(bytes, 8);
  return bytes;
}

function featureNames(): Buffer {
  const table = Buffer.alloc(FEATURES.length * FEATURE_ENTRY);
  for (const [index, { kind, bit, name }] of FEATURES.entries()) {
    const at = index * FEATURE_ENTRY;
    table[at] = FEATURE_KINDS.indexOf(kind);
    table[at + 1] = bit;
    table.write(name, at + 2, FEATURE_ENTRY - 2);
  }
  return table;
}
