import { BlockError } from '../../../../src/block/errors.ts';
import { ExtensionType } from '../extensions.ts';
import type { HeaderExtension } from '../extensions.ts';
import { encodeField } from '../header.ts';
import type { Image } from '../image.ts';
import { encodeExtension } from '../new-image.ts';

/**
 * The first cluster with a header of `length` bytes (as it is, cut or filled with zeroes), these extensions, and the name of
 * the backing file: the one that is there when none is given.
 */
export async function firstCluster(
  image: Image,
  length: number,
  extensions: readonly HeaderExtension[],
  newName?: Buffer,
): Promise<Buffer> {
  const { file, geometry, header } = image;
  const { backing_file_offset: nameAt, backing_file_size: nameLength } = header.fields;
  const head = Buffer.alloc(geometry.clusterSize);
  await file.read(head, 0);
  const name = newName ?? Buffer.from(nameAt === 0 ? [] : head.subarray(nameAt, nameAt + nameLength));
  const rest = Buffer.concat([
    ...extensions.map(({ type, data }) => encodeExtension(type, data)),
    encodeExtension(ExtensionType.end, Buffer.alloc(0)),
  ]);
  const at = length + rest.length;
  if (at + name.length > head.length) {
    const what = `header and names take ${at + name.length} bytes, the first cluster has ${head.length}`;
    throw new BlockError('ENOTSUP', `Cannot amend image "${image.subject}": ${what}`);
  }
  head.fill(0, Math.min(length, header.length));
  rest.copy(head, length);
  name.copy(head, at);
  encodeField(head, 'backing_file_offset', name.length === 0 ? 0 : at);
  encodeField(head, 'backing_file_size', name.length);
  return head;
}
