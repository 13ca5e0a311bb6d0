import type { Child } from '../../../src/block/child.ts';
import type { CreateContext } from '../../../src/block/driver.ts';
import { Placement } from '../../../src/block/extent.ts';
import { newLuksVolume } from '../../../src/crypto/luks-create.ts';
import { buildWriter } from './build.ts';
import type { Writer } from './build.ts';
import { newImageOptions } from './create-options.ts';
import type { NewQcow2 } from './create-options.ts';
import { geometryOf } from './geometry.ts';
import { HeaderBlock } from './header-block.ts';
import { decodeHeader } from './header.ts';
import { Image } from './image.ts';
import { encodeImage } from './new-image.ts';

const SLICE = 65536;
const SLICES = 256;
const PAGES = 1024;
const FULL_CHUNK = 1024 * 1024;

/** Makes an empty image in an empty file. */
export async function createQcow2(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file } = context;
  const options = newImageOptions(context);
  const bytes = encodeImage(options, await newEncryptionHeader(context, options.encryption));
  await file.write(bytes, 0);
  const dataFile = options.dataFile === undefined ? undefined : await context.createFile(options.dataFile);
  if (dataFile !== undefined && dataFile.size < options.size) await dataFile.resize(options.size);
  if (needsPreallocation(options)) await preallocate(options, bytes, file, dataFile);
  await file.flush();
}

/** The LUKS header of the new image; checks that there is a key also where it needs none. */
async function newEncryptionHeader(
  context: CreateContext<Readonly<Record<string, unknown>>>,
  format: NewQcow2['encryption'],
): Promise<Buffer | undefined> {
  if (format === undefined) return undefined;
  const { options, subject } = context;
  const id = options['encrypt.key-secret'];
  const passphrase = await context.secret?.(typeof id === 'string' ? id : undefined);
  if (format === 'aes') return undefined;
  const { bytes } = await newLuksVolume((name) => String(options[`encrypt.${name}`]), passphrase, subject);
  return bytes;
}

/** A raw data file can be trusted without the tables only where they name all of it. */
function needsPreallocation(options: NewQcow2): boolean {
  return options.size > 0 && (options.preallocation !== 'off' || options.dataFileRaw);
}

async function preallocate(
  options: NewQcow2,
  bytes: Buffer,
  file: Child,
  dataFile: Child | undefined,
): Promise<void> {
  const header = decodeHeader(bytes);
  const image = new Image({
    subject: options.subject,
    file,
    dataFile,
    header: new HeaderBlock(file, bytes, header),
    extensions: { list: [] },
    geometry: geometryOf(header, SLICE),
    writable: true,
    hasBacking: () => false,
  });
  image.prepared = true;
  const policy = { request: false, snapshot: false, other: false };
  const sizes = { slices: SLICES, pages: PAGES };
  const { writer } = await buildWriter(image, { sizes, snapshots: { snapshots: [], length: 0 }, policy });
  const end = await placeAll(image, writer, options);
  if (options.encryption !== undefined) await markZero(image, writer, options.size);
  writer.housekeeping.close();
  await writer.writeback.flushAll();
  if (dataFile === undefined && file.size < end) await file.resize(end);
}

/** Gives every cluster of the disk a place; returns where the last one ends in the file. */
async function placeAll(image: Image, writer: Writer, options: NewQcow2): Promise<number> {
  const place = new Placement();
  let end = 0;
  for (let at = 0; at < options.size; at = place.start + place.length) {
    while (!writer.allocate.tryAllocate(at, options.size - at, place)) await image.need.load();
    if (options.preallocation === 'falloc') await image.data.writeZeroes(place.offset, place.length);
    if (options.preallocation === 'full') await writeZeroBytes(image.data, place.offset, place.length);
    writer.allocate.commit(place);
    end = Math.max(end, place.offset + place.length);
  }
  return end;
}

/** Zeroes would be decrypted to noise: the clusters keep their places and are marked as reading zeroes. */
async function markZero(image: Image, writer: Writer, size: number): Promise<void> {
  for (let at = 0; at < size;) {
    const done = writer.zero.tryZero(at, size - at, false);
    if (done === false) await image.need.load();
    else at += done;
  }
}

async function writeZeroBytes(data: Child, offset: number, length: number): Promise<void> {
  const zeroes = Buffer.alloc(Math.min(length, FULL_CHUNK));
  for (let at = 0; at < length; at += zeroes.length) {
    await data.write(zeroes.subarray(0, Math.min(zeroes.length, length - at)), offset + at);
  }
}
