import { randomUUID } from 'node:crypto';
import type { Child } from '../../../src/block/child.ts';
import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { takeDeclared } from '../../../src/block/options.ts';
import { parentGuid } from '../../../src/block/parent-guid.ts';
import { bool, choice, optional, size, text } from '../../../src/block/schema.ts';
import { NIL_GUID } from '../../../src/util/guid.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import { BLOCKS_MAX, encodeHeader, ImageType, SIGNATURE } from './header.ts';
import type { VdiHeader } from './header.ts';

export const CREATE_OPTIONS = {
  subformat: optional(choice(['dynamic', 'fixed', 'differencing'], 'Kind of image'), 'dynamic'),
  static: optional(bool('The same as subformat=fixed'), false),
  block_size: optional(size('Guest bytes of a block; other programs know 1 MiB only'), 1024 * 1024),
  backing_file: optional(text('Parent of a differencing image')),
  backing_fmt: optional(choice(['vdi'], 'Format of the parent')),
  'parent-uuid': optional(text('UUID of the parent; taken from it when left out')),
  'parent-modification-uuid': optional(text('Modification UUID of the parent; taken from it when left out')),
};

type Options = Readonly<Record<string, unknown>>;

const MAP_AT = 512;
const PIECE = 1024 * 1024;

/** Makes an empty image in an empty file. */
export async function create(context: CreateContext<Options>): Promise<void> {
  const { file } = context;
  const shape = await shapeOf(context);
  const { blocks, fixed, unit } = shape;
  const header = makeHeader(shape);
  await file.write(encodeHeader(header, ''), 0);
  await writeMap(file, blocks, fixed);
  if (fixed) await file.resize(header.offset_data + blocks * unit);
  else if (file.size < header.offset_data) await file.resize(header.offset_data);
  await file.flush();
}

/** Contract: Driver.checkCreate. */
export async function checkNew(context: NewImageContext): Promise<void> {
  await shapeOf(context);
}

async function shapeOf(context: NewImageContext): Promise<Shape> {
  const { size: bytes, subject } = context;
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
  if (blocks > BLOCKS_MAX) {
    throw new BlockError(
      'EFBIG',
      `Cannot create "${subject}": size is ${bytes}, must be at most ${BLOCKS_MAX * unit} with block_size=${unit}`,
    );
  }
  return { bytes, unit, blocks, fixed, parent: await parentOf(context, options) };
}

interface Parent {
  readonly uuid: string;
  readonly modification: string;
}

interface Shape {
  readonly bytes: number;
  readonly unit: number;
  readonly blocks: number;
  readonly fixed: boolean;
  readonly parent: Parent | undefined;
}

/** The parent of a differencing image; its name is not stored, so it has to be in the same folder later. */
async function parentOf(context: NewImageContext, options: Options): Promise<Parent | undefined> {
  const wanted = options['subformat'] === 'differencing' || options['backing_file'] !== undefined;
  if (!wanted) return undefined;
  return {
    uuid: await parentGuid(context, options, { format: 'vdi', option: 'parent-uuid', key: 'uuid' }),
    modification: await parentGuid(context, options, {
      format: 'vdi',
      option: 'parent-modification-uuid',
      key: 'modification-uuid',
    }),
  };
}

function makeHeader({ bytes, unit, blocks, fixed, parent }: Shape): VdiHeader {
  return {
    signature: SIGNATURE,
    version: 0x00010001,
    header_size: 0x190,
    image_type: parent !== undefined ? ImageType.differencing : fixed ? ImageType.fixed : ImageType.dynamic,
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
    uuid_link: parent?.uuid ?? NIL_GUID,
    uuid_parent_modification: parent?.modification ?? NIL_GUID,
  };
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
