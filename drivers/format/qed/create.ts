import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { integer, optional, size, text } from '../../../src/block/schema.ts';
import { isPowerOfTwo } from '../../../src/util/sizes.ts';
import type { Header } from './header.ts';
import { encodeHeader, Feature, HEADER_LENGTH, MAGIC, maxImageSize } from './header.ts';

export const CREATE_OPTIONS = {
  backing_file: optional(text('Name of the backing file, as the image is to hold it')),
  backing_fmt: optional(text('Format of the backing file; the image can only say that it is raw')),
  cluster_size: optional(size('Bytes of a cluster, a power of two from 4k to 64M'), 65536),
  /** The specification allows 1 as well; QEMU refuses to open such an image. */
  table_size: optional(integer('Clusters of a table: 2, 4, 8 or 16', 2, 16), 4),
};

/** Writes the header, the backing file name behind it and an empty L1 table. */
export async function createQed(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file } = context;
  const { header, name } = planOf(context);
  await file.resize(header.l1_table_offset + header.table_size * header.cluster_size);
  await file.write(Buffer.concat([encodeHeader(header), name]), 0);
  await file.flush();
}

/** Contract: Driver.checkCreate. */
export async function checkNewQed(context: NewImageContext): Promise<void> {
  planOf(context);
}

function planOf(context: NewImageContext): { readonly header: Header; readonly name: Buffer } {
  const given = context.options['backing_file'];
  const name = Buffer.from(typeof given === 'string' ? given : '');
  const header = headerFor(context, name.length);
  check(header, name.length, context.subject);
  return { header, name };
}

function headerFor({ size, options }: NewImageContext, nameLength: number): Header {
  const cluster = Number(options['cluster_size'] ?? 65536);
  const isRaw = options['backing_fmt'] === 'raw' ? Feature.backingIsRaw : 0n;
  return {
    magic: MAGIC,
    cluster_size: cluster,
    table_size: Number(options['table_size'] ?? 4),
    header_size: 1,
    features: nameLength > 0 ? Feature.backingFile | isRaw : 0n,
    compat_features: 0n,
    autoclear_features: 0n,
    l1_table_offset: cluster,
    image_size: size,
    backing_filename_offset: nameLength > 0 ? HEADER_LENGTH : 0,
    backing_filename_size: nameLength,
  };
}

function check(header: Header, nameLength: number, subject: string): void {
  const refuse = (is: string, wanted: string): never => {
    throw new BlockError('EINVAL', `Cannot create "${subject}": ${is}, ${wanted}`);
  };
  const { cluster_size: cluster, table_size: table, image_size: size } = header;
  if (!isPowerOfTwo(cluster) || cluster < 2 ** 12 || cluster > 2 ** 26) {
    refuse(`cluster_size is ${cluster}`, 'must be a power of two from 4096 to 67108864');
  }
  if (!isPowerOfTwo(table) || table < 2 || table > 16)
    refuse(`table_size is ${table}`, 'must be 2, 4, 8 or 16');
  if (size % 512 !== 0 || size > maxImageSize(header)) {
    refuse(`size is ${size}`, `must be a multiple of 512 up to ${maxImageSize(header)}`);
  }
  if (nameLength > 1023) refuse(`backing_file has ${nameLength} bytes`, 'must be at most 1023');
}
