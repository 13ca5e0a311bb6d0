import { constants, deflateRaw, zstdCompress } from 'node:zlib';

/** The stored form of one cluster, on the thread pool. */
export type Compress = (cluster: Buffer) => Promise<Buffer>;

/** Specification: "Compressed Clusters Descriptor": readers need not have a larger window. */
const WINDOW_BITS = 12;

export function deflateCluster(cluster: Buffer): Promise<Buffer> {
  const options = { windowBits: WINDOW_BITS, chunkSize: Math.max(1024, cluster.length) };
  return new Promise((resolve, reject) => {
    deflateRaw(cluster, options, (error, stored) => {
      if (error === null) resolve(stored);
      else reject(error);
    });
  });
}

/** One frame that tells its content's length. */
export function zstdCluster(cluster: Buffer): Promise<Buffer> {
  const params = { [constants.ZSTD_c_contentSizeFlag]: 1 };
  const options = { params, chunkSize: Math.max(1024, cluster.length), pledgedSrcSize: cluster.length };
  return new Promise((resolve, reject) => {
    zstdCompress(cluster, options, (error, stored) => {
      if (error === null) resolve(stored);
      else reject(error);
    });
  });
}
