import type { Child } from '../../../src/block/child.ts';
import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { Placement } from '../../../src/block/extent.ts';
import { isZero } from '../../../src/block/zero.ts';
import { checkLuksOptions, newLuksVolume } from '../../../src/crypto/luks-create.ts';
import { ExtendedAllocate } from './allocate-extended.ts';
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
const PAGE = 4096;
const FULL_CHUNK = 1024 * 1024;

/** Makes an empty image in an empty file. */
export async function createQcow2(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file } = context;
  const options = newImageOptions(context);
  const bytes = encodeImage(options, await newEncryptionHeader(context, options.encryption));
  await writeSparse(file, bytes);
  const dataFile = options.dataFile === undefined ? undefined : await context.createFile(options.dataFile);
  if (dataFile !== undefined && dataFile.size < options.size) await dataFile.resize(options.size);
  if (needsPreallocation(options)) await preallocate(options, bytes, file, dataFile);
  await file.flush();
}

/** What can't be made is refused before a file is touched: options, their combinations, the key. */
export async function checkNewQcow2(context: NewImageContext): Promise<void> {
  const { encryption } = newImageOptions(context);
  if (encryption === undefined) return;
  const key = await newKey(context);
  if (encryption === 'luks') checkLuksOptions(luksOption(context), key, context.subject);
}

/** The LUKS header of the new image. */
async function newEncryptionHeader(
  context: NewImageContext,
  format: NewQcow2['encryption'],
): Promise<Buffer | undefined> {
  if (format !== 'luks') return undefined;
  const { bytes } = await newLuksVolume(luksOption(context), await newKey(context), context.subject);
  return bytes;
}

const luksOption =
  ({ options }: NewImageContext) =>
  (name: string): string =>
    String(options[`encrypt.${name}`]);

function newKey({ options, secret }: NewImageContext): Promise<Buffer | undefined> {
  const id = options['encrypt.key-secret'];
  return secret?.(typeof id === 'string' ? id : undefined) ?? Promise.resolve(undefined);
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
  if (options.encryption !== undefined && !options.extendedL2) await markZero(image, writer, options.size);
  writer.housekeeping.close();
  await writer.writeback.flush();
  // A refcount table that became too short is free then.
  await writer.release.idle();
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
    if (writer.allocate instanceof ExtendedAllocate && !options.dataFileRaw) writer.allocate.reserve(place);
    else writer.allocate.commit(place);
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

/** Zeroes stay holes. */
async function writeSparse(file: Child, bytes: Buffer): Promise<void> {
  await file.resize(bytes.length);
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, at + PAGE);
    if (!isZero(page, 0, page.length)) await file.write(page, at);
  }
}

async function writeZeroBytes(data: Child, offset: number, length: number): Promise<void> {
  const zeroes = Buffer.alloc(Math.min(length, FULL_CHUNK));
  for (let at = 0; at < length; at += zeroes.length) {
    await data.write(zeroes.subarray(0, Math.min(zeroes.length, length - at)), offset + at);
  }
}
