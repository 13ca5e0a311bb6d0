import { BlockError } from '../../../src/block/errors.ts';
import { ExtensionType } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import type { Image } from './image.ts';
import { encodeExtension } from './new-image.ts';

const NAME_MAX = 1023;

export interface BackingName {
  readonly filename: string | undefined;
  readonly format: string | undefined;
}

/** Writes header, extensions and names anew with another backing file name; returns the extensions that it has now. */
export async function changeBackingName(
  image: Image,
  extensions: readonly HeaderExtension[],
  { filename, format }: BackingName,
): Promise<readonly HeaderExtension[]> {
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', `Cannot change the backing file of image "${image.subject}": ${what}`);
  };
  if (image.rawData && filename !== undefined)
    refuse('a raw data file and a backing file exclude each other');
  const others = extensions.filter(({ type }) => type !== ExtensionType.backingFormat);
  const named = filename !== undefined && format !== undefined;
  const next = named ? [{ type: ExtensionType.backingFormat, data: Buffer.from(format) }, ...others] : others;
  const name = Buffer.from(filename ?? '');
  if (name.length > NAME_MAX) refuse(`its name has ${name.length} bytes, must have at most ${NAME_MAX}`);
  const { header, geometry } = image;
  const encoded = Buffer.concat([
    ...next.map(({ type, data }) => encodeExtension(type, data)),
    encodeExtension(ExtensionType.end, Buffer.alloc(0)),
  ]);
  const room = geometry.clusterSize - header.length;
  const needed = encoded.length + name.length;
  if (needed > room)
    refuse(`extensions and name take ${needed} bytes, the first cluster has room for ${room}`);
  const rest = Buffer.alloc(room);
  encoded.copy(rest);
  name.copy(rest, encoded.length);
  while (!image.tryPrepare()) await image.need.load();
  const at = name.length === 0 ? 0 : header.length + encoded.length;
  await header.replace({ backing_file_offset: at, backing_file_size: name.length }, rest);
  return next;
}
