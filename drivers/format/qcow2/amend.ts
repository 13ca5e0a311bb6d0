import { BlockError } from '../../../src/block/errors.ts';
import type { HeaderExtension } from './extensions.ts';
import { ExtensionType } from './extensions.ts';
import { Compatible } from './features.ts';
import { encodeField, V2_LENGTH } from './header.ts';
import type { Image } from './image.ts';
import { encodeExtension } from './new-image.ts';

const V3_LENGTH_WRITTEN = 112;
const REFCOUNT_ORDER_V2 = 4;

/** Changes what `create` had decided, as far as that can be changed. Nothing but closing follows a change of version. */
export async function amendQcow2(
  image: Image,
  extensions: readonly HeaderExtension[],
  options: Readonly<Record<string, string>>,
): Promise<void> {
  const refuse = (what: string): never => {
    throw new BlockError('ENOTSUP', `Cannot amend image "${image.subject}": ${what}`);
  };
  const { fields } = image.header;
  const { compat, lazy_refcounts: lazy, refcount_bits: bits, ...others } = options;
  const [other] = Object.keys(others);
  if (other !== undefined) refuse(`"${other}" can't be changed once an image is made, convert it`);
  if (bits !== undefined && Number(bits) !== image.geometry.refcountBits)
    refuse(`refcount_bits is ${image.geometry.refcountBits} and can't be changed, convert the image`);
  const version = compat === undefined ? fields.version : versionOf(compat, refuse);
  if (lazy === 'on' && version < 3) refuse('lazy_refcounts needs compat=1.1');
  if (version < fields.version)
    refuse('a newer image is not made older in place, convert it with compat=0.10');
  if (version > fields.version) await upgrade(image, extensions);
  if (lazy === undefined || (version === 2 && lazy === 'off')) return;
  const kept = image.header.fields.compatible_features & ~Compatible.lazyRefcounts;
  await image.header.update({ compatible_features: lazy === 'on' ? kept | Compatible.lazyRefcounts : kept });
}

function versionOf(compat: string, refuse: (what: string) => never): number {
  if (compat === '1.1' || compat === 'v3') return 3;
  return compat === '0.10' || compat === 'v2' ? 2 : refuse(`compat is "${compat}", must be 0.10 or 1.1`);
}

/** The header gets longer, and what follows it moves back, all in one write of the first cluster. */
async function upgrade(image: Image, extensions: readonly HeaderExtension[]): Promise<void> {
  const { file, geometry, header } = image;
  const { backing_file_offset: nameAt, backing_file_size: nameLength } = header.fields;
  const head = Buffer.alloc(geometry.clusterSize);
  await file.read(head, 0);
  const name = Buffer.from(head.subarray(nameAt, nameAt + nameLength));
  const rest = Buffer.concat([
    ...extensions.map(({ type, data }) => encodeExtension(type, data)),
    encodeExtension(ExtensionType.end, Buffer.alloc(0)),
  ]);
  const at = V3_LENGTH_WRITTEN + rest.length;
  if (at + name.length > head.length) {
    const what = `header and names take ${at + name.length} bytes, the first cluster has ${head.length}`;
    throw new BlockError('ENOTSUP', `Cannot amend image "${image.subject}": ${what}`);
  }
  head.fill(0, V2_LENGTH);
  rest.copy(head, V3_LENGTH_WRITTEN);
  name.copy(head, at);
  encodeField(head, 'version', 3);
  encodeField(head, 'refcount_order', REFCOUNT_ORDER_V2);
  encodeField(head, 'header_length', V3_LENGTH_WRITTEN);
  encodeField(head, 'backing_file_offset', name.length === 0 ? 0 : at);
  await header.rewrite(head);
}
