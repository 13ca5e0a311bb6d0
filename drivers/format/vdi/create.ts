import { randomUUID } from 'node:crypto';
import type { Child } from '../../../src/block/child.ts';
import type { CreateContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { takeDeclared } from '../../../src/block/options.ts';
import { bool, choice, optional, size, text } from '../../../src/block/schema.ts';
import { NIL_GUID, normalizeGuid } from '../../../src/util/guid.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import { encodeHeader, ImageType, SIGNATURE } from './header.ts';
import type { VdiHeader } from './header.ts';

export const CREATE_OPTIONS = {
  subformat: optional(choice(['dynamic', 'fixed', 'differencing'], 'Kind of image'), 'dynamic'),
  static: optional(bool('The same as subformat=fixed'), false),
  block_size: optional(size('Guest bytes of a block; other programs know 1 MiB only'), 1024 * 1024),
  'parent-uuid': optional(text('UUID of the parent image (differencing)')),
  'parent-modification-uuid': optional(text('Modification UUID of the parent image (differencing)')),
};

type Options = Readonly<Record<string, unknown>>;

const MAP_AT = 512;
const PIECE = 1024 * 1024;

/** Makes an empty image in an empty file. */
export async function create(context: CreateContext<Options>): Promise<void> {
  const { size: bytes, file, subject } = context;
  const options = takeDeclared({ ...context.options }, CREATE_OPTIONS, `"${subject}"`);
  const fixed = options['static'] === true || options['subformat'] === 'fixed';
  const unit = Number(options['block_size']);
  if (!isPowerOfTwo(unit) || unit < 4096 || unit > 64 * 1024 * 1024) {
    throw new BlockError(
      'EINVAL',
      `Cannot create "${subject}": block_size is ${unit}, must be a power of two from 4k to 64M`,
    );
  }
  const blocks = Math.ceil(bytes / unit);
  if (blocks > 0x3fffffff) {
    throw new BlockError(
      'EFBIG',
      `Cannot create "${subject}": size is ${bytes}, must be at most ${0x3fffffff * unit}`,
    );
  }
  const header = makeHeader(options, { bytes, unit, blocks, fixed, subject });
  await file.write(encodeHeader(header, ''), 0);
  await writeMap(file, blocks, fixed);
  if (fixed) await file.resize(header.offset_data + blocks * unit);
  else if (file.size < header.offset_data) await file.resize(header.offset_data);
  await file.flush();
}

interface Shape {
  readonly bytes: number;
  readonly unit: number;
  readonly blocks: number;
  readonly fixed: boolean;
  readonly subject: string;
}

function makeHeader(options: Options, { bytes, unit, blocks, fixed, subject }: Shape): VdiHeader {
  const overlay = options['subformat'] === 'differencing';
  return {
    signature: SIGNATURE,
    version: 0x00010001,
    header_size: 0x190,
    image_type: fixed ? ImageType.fixed : overlay ? ImageType.differencing : ImageType.dynamic,
    image_flags: 0,
    offset_bmap: MAP_AT,
    offset_data: alignUp(MAP_AT + blocks * 4, unit >= PIECE ? PIECE : unit),
    cylinders: 0,
    heads: 0,
    sectors: 0,
    sector_size: 512,
    disk_size: bytes,
    block_size: unit,
    block_extra: 0,
    blocks_in_image: blocks,
    blocks_allocated: fixed ? blocks : 0,
    uuid_image: randomUUID(),
    uuid_modification: randomUUID(),
    uuid_link: overlay ? givenGuid(options, 'parent-uuid', subject) : NIL_GUID,
    uuid_parent_modification: overlay ? givenGuid(options, 'parent-modification-uuid', subject) : NIL_GUID,
  };
}

function givenGuid(options: Options, name: string, subject: string): string {
  const given = options[name];
  const guid = typeof given === 'string' ? normalizeGuid(given) : undefined;
  if (guid !== undefined) return guid;
  const is = given === undefined ? 'is missing' : `is ${JSON.stringify(given)}`;
  throw new BlockError(
    'EINVAL',
    `Cannot create "${subject}": option "${name}" ${is}, must be a UUID for a differencing image`,
  );
}

async function writeMap(file: Child, blocks: number, fixed: boolean): Promise<void> {
  const perPiece = PIECE / 4;
  for (let first = 0; first < blocks; first += perPiece) {
    const count = Math.min(perPiece, blocks - first);
    const bytes = Buffer.alloc(count * 4, 0xff);
    if (fixed) for (let index = 0; index < count; index += 1) bytes.writeUInt32LE(first + index, index * 4);
    await file.write(bytes, MAP_AT + first * 4);
  }
}
