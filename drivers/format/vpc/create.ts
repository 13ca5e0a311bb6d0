import { randomUUID } from 'node:crypto';
import { posix } from 'node:path';
import type { Child } from '../../../src/block/child.ts';
import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { takeDeclared } from '../../../src/block/options.ts';
import { parentGuid } from '../../../src/block/parent-guid.ts';
import { bool, choice, optional, size, text } from '../../../src/block/schema.ts';
import { NIL_GUID } from '../../../src/util/guid.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import { CURRENT_SIZE_CREATOR, geometryFor, roundUpToGeometry, SIZE_MAX } from './disk-size.ts';
import { encodeHeader, HEADER_COOKIE, HEADER_LENGTH } from './dynamic-header.ts';
import { COOKIE, DiskType, encodeFooter, FOOTER_LENGTH, timestampNow } from './footer.ts';
import type { Footer } from './footer.ts';
import { encodeLocator } from './locators.ts';

export const CREATE_OPTIONS = {
  subformat: optional(
    choice(['dynamic', 'fixed', 'differencing'], 'Kind of image; dynamic, or differencing with a parent'),
  ),
  force_size: optional(
    bool('Keep the exact size; off: round up to what the geometry of old programs can describe'),
    true,
  ),
  block_size: optional(size('Guest bytes of a block'), 2 * 1024 * 1024),
  backing_file: optional(text('File name of the parent of a differencing image')),
  backing_fmt: optional(choice(['vpc'], 'Format of the parent')),
  'parent-uuid': optional(text('UUID of the parent; taken from it when left out')),
};

const LOCATOR_SPACE = 512;
const PIECE = 1024 * 1024;

type Given = Readonly<Record<string, unknown>>;
type Subformat = keyof typeof DiskType;

interface Shape {
  readonly subformat: Subformat;
  readonly bytes: number;
  readonly exact: boolean;
  readonly unit: number;
  readonly parentName: string;
  readonly parentUuid: string;
}

/** Makes an empty image in an empty file. */
export async function create(context: CreateContext<Given>): Promise<void> {
  const { file } = context;
  const shape = await shapeOf(context);
  const footer = makeFooter(shape);
  if (shape.subformat === 'fixed') {
    await file.resize(shape.bytes);
    await file.write(encodeFooter(footer), shape.bytes);
  } else {
    await createSparse(file, shape, footer);
  }
  await file.flush();
}

/** Contract: Driver.checkCreate. */
export async function checkNew(context: NewImageContext): Promise<void> {
  await shapeOf(context);
}

async function shapeOf(context: NewImageContext): Promise<Shape> {
  const { size: wanted, subject } = context;
  const options = takeDeclared({ ...context.options }, CREATE_OPTIONS, `"${subject}"`);
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', `Cannot create "${subject}": ${what}`);
  };
  const unit = Number(options['block_size']);
  if (!isPowerOfTwo(unit) || unit < 4096 || unit > 64 * PIECE) {
    refuse(`block_size is ${unit}, must be a power of two from 4k to 64M`);
  }
  const exact = options['force_size'] !== false;
  const bytes = exact ? alignUp(wanted, 512) : roundUpToGeometry(alignUp(wanted, 512));
  if (bytes > SIZE_MAX) refuse(`size is ${bytes}, must be at most ${SIZE_MAX}`);
  const backing = options['backing_file'];
  const parentName = typeof backing === 'string' ? backing : '';
  const subformat = subformatOf(options['subformat'], parentName);
  if (subformat !== 'differencing')
    return { subformat, bytes, exact, unit, parentName: '', parentUuid: NIL_GUID };
  if (parentName === '') refuse('option "backing_file" is missing, a differencing image has a parent');
  const parentUuid = await parentGuid(context, options, {
    format: 'vpc',
    option: 'parent-uuid',
    key: 'uuid',
  });
  return { subformat, bytes, exact, unit, parentName, parentUuid };
}

function subformatOf(given: unknown, parentName: string): Subformat {
  if (given === 'fixed' || given === 'differencing') return given;
  return given === undefined && parentName !== '' ? 'differencing' : 'dynamic';
}

function makeFooter({ subformat, bytes, exact }: Shape): Footer {
  return {
    cookie: COOKIE,
    features: 2,
    version: 0x00010000,
    data_offset: subformat === 'fixed' ? Number.NaN : FOOTER_LENGTH,
    timestamp: timestampNow(),
    creator_app: exact ? CURRENT_SIZE_CREATOR : 'qemu',
    creator_version: 0x00010000,
    creator_os: 'Wi2k',
    original_size: bytes,
    current_size: bytes,
    ...geometryFor(bytes),
    type: DiskType[subformat],
    checksum: 0,
    uuid: randomUUID(),
    saved_state: 0,
    reserved: '',
  };
}

async function createSparse(file: Child, shape: Shape, footer: Footer): Promise<void> {
  const blocks = Math.ceil(shape.bytes / shape.unit);
  const locators = shape.parentName === '' ? [] : locatorsOf(shape.parentName);
  const locatorsAt = FOOTER_LENGTH + HEADER_LENGTH;
  const tableAt =
    locatorsAt + locators.reduce((sum, { data }) => sum + alignUp(data.length, LOCATOR_SPACE), 0);
  const header = Buffer.alloc(HEADER_LENGTH);
  let at = locatorsAt;
  for (const [index, { platform, data }] of locators.entries()) {
    const space = alignUp(data.length, LOCATOR_SPACE);
    encodeLocator(header, index, { platform, length: data.length, offset: at, space });
    await file.write(data, at);
    at += space;
  }
  encodeHeader(header, {
    cookie: HEADER_COOKIE,
    data_offset: Number.NaN,
    table_offset: tableAt,
    version: 0x00010000,
    max_table_entries: blocks,
    block_size: shape.unit,
    checksum: 0,
    parent_uuid: shape.parentUuid,
    parent_timestamp: shape.parentName === '' ? 0 : timestampNow(),
    parent_name: posix.basename(shape.parentName),
  });
  await file.write(encodeFooter(footer), 0);
  await file.write(header, FOOTER_LENGTH);
  const tableEnd = tableAt + alignUp(blocks * 4, 512);
  const unused = Buffer.alloc(Math.min(PIECE, tableEnd - tableAt), 0xff);
  for (let from = tableAt; from < tableEnd; from += unused.length) {
    await file.write(unused.subarray(0, Math.min(unused.length, tableEnd - from)), from);
  }
  await file.write(encodeFooter(footer), tableEnd);
}

/** The parent's name for Windows, relative; and where it is absolute, as it is. */
function locatorsOf(name: string): { platform: string; data: Buffer }[] {
  const windows = name.replaceAll('/', '\\');
  if (!posix.isAbsolute(name)) {
    const relative = windows.startsWith('.') ? windows : `.\\${windows}`;
    return [{ platform: 'W2ru', data: Buffer.from(relative, 'utf16le') }];
  }
  return [
    { platform: 'W2ku', data: Buffer.from(windows, 'utf16le') },
    { platform: 'MacX', data: Buffer.from(`file://${encodeURI(name)}`, 'utf8') },
  ];
}
