const CLUSTER = 65536;

/**
 * A qcow2 image (version 3, 64 KiB clusters) of `size` bytes, at most 512 MiB x 8, whose disk starts with `text`.
 *
 *   cluster 0: header | 1: refcount table | 2: refcount block | 3: L1 table | 4: L2 table | 5: the text
 */
export function demoImage(size, text) {
  const image = Buffer.alloc(6 * CLUSTER);
  const L1_ENTRY_COVERS = (CLUSTER / 8) * CLUSTER;
  const COPIED = 2n ** 63n;
  image.write('QFI\xfb', 0, 'latin1');
  image.writeUInt32BE(3, 4); // version
  image.writeUInt32BE(Math.log2(CLUSTER), 20); // cluster_bits
  image.writeBigUInt64BE(BigInt(size), 24);
  image.writeUInt32BE(Math.ceil(size / L1_ENTRY_COVERS), 36); // l1_size
  image.writeBigUInt64BE(BigInt(3 * CLUSTER), 40); // l1_table_offset
  image.writeBigUInt64BE(BigInt(CLUSTER), 48); // refcount_table_offset
  image.writeUInt32BE(1, 56); // refcount_table_clusters
  image.writeUInt32BE(4, 96); // refcount_order: 16 bits
  image.writeUInt32BE(104, 100); // header_length; zeroes after it end the extensions
  image.writeBigUInt64BE(BigInt(2 * CLUSTER), CLUSTER);
  for (let cluster = 0; cluster < 6; cluster += 1) image.writeUInt16BE(1, 2 * CLUSTER + 2 * cluster);
  image.writeBigUInt64BE(COPIED | BigInt(4 * CLUSTER), 3 * CLUSTER);
  image.writeBigUInt64BE(COPIED | BigInt(5 * CLUSTER), 4 * CLUSTER);
  image.write(text, 5 * CLUSTER, 'utf8');
  return image;
}
