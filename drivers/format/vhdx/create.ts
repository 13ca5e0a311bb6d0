import { randomUUID } from 'node:crypto';
import { posix } from 'node:path';
import type { Child } from '../../../src/block/child.ts';
import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { takeDeclared } from '../../../src/block/options.ts';
import { parentGuid } from '../../../src/block/parent-guid.ts';
import { choice, optional, size, text } from '../../../src/block/schema.ts';
import { writeU64LE } from '../../../src/util/bytes.ts';
import { NIL_GUID, writeGuidMixed } from '../../../src/util/guid.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import { shapeOf, State } from './bat.ts';
import { encodeHeader, FILE_SIGNATURE, HEADER_PLACES, MIB, REGION_PLACES } from './header.ts';
import { encodeMetadata, Item } from './metadata.ts';
import type { Metadata, MetadataItem } from './metadata.ts';
import { encodeLocator } from './parent-locator.ts';
import { BAT_REGION, encodeRegionTable, METADATA_REGION } from './regions.ts';

export const CREATE_OPTIONS = {
  subformat: optional(
    choice(['dynamic', 'fixed', 'differencing'], 'Kind of image; dynamic, or differencing with a parent'),
  ),
  block_size: optional(
    size('Guest bytes of a block, a power of two from 1M to 256M; by the size of the disk when left out'),
  ),
  log_size: optional(size('Bytes of the log, a multiple of 1M'), MIB),
  logical_sector_size: optional(choice(['512', '4096'], 'Sector size that the guest sees'), '512'),
  backing_file: optional(text('File name of the parent of a differencing image')),
  backing_fmt: optional(choice(['vhdx'], 'Format of the parent')),
  'parent-linkage': optional(text('DataWriteGuid of the parent; taken from it when left out')),
};

type Given = Readonly<Record<string, unknown>>;

const LOG_AT = MIB;
const PIECE = MIB;
const OF_DISK = 2;
const REQUIRED = 4;

interface Plan {
  readonly metadata: Metadata;
  readonly logLength: number;
  readonly metadataAt: number;
  readonly batAt: number;
  readonly batLength: number;
  /** Where the first block goes. */
  readonly end: number;
  readonly locator: Buffer | undefined;
}

/** Makes an empty image in an empty file. The signature is written last: a half-made file is no image. */
export async function create(context: CreateContext<Given>): Promise<void> {
  const { file } = context;
  const plan = await planOf(context);
  await file.resize(plan.end);
  await writeHeaders(file, plan);
  await file.write(encodeMetadata(itemsOf(plan)), plan.metadataAt);
  if (plan.metadata.leaveAllocated) await allocateAll(file, plan);
  await file.flush();
  const identifier = Buffer.alloc(520);
  identifier.write(FILE_SIGNATURE, 0, 'latin1');
  identifier.write('blockfuse', 8, 'utf16le');
  await file.write(identifier, 0);
  await file.flush();
}

/** Contract: Driver.checkCreate. */
export async function checkNew(context: NewImageContext): Promise<void> {
  await planOf(context);
}

async function planOf(context: NewImageContext): Promise<Plan> {
  const { size: bytes, subject } = context;
  const options = takeDeclared({ ...context.options }, CREATE_OPTIONS, `"${subject}"`);
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', `Cannot create "${subject}": ${what}`);
  };
  const blockSize = Number(options['block_size'] ?? (bytes > 2 ** 40 ? 32 * MIB : 2 * MIB));
  if (!isPowerOfTwo(blockSize) || blockSize < MIB || blockSize > 256 * MIB) {
    refuse(`block_size is ${blockSize}, must be a power of two from 1M to 256M`);
  }
  const logLength = Number(options['log_size']);
  if (logLength < MIB || logLength % MIB !== 0 || logLength > 64 * MIB)
    refuse(`log_size is ${logLength}, must be a multiple of 1M up to 64M`);
  const sector = Number(options['logical_sector_size']);
  if (bytes > 64 * 2 ** 40) refuse(`size is ${bytes}, must be at most ${64 * 2 ** 40}`);
  const { subformat, backing_file: backing } = options;
  const hasParent = subformat === 'differencing' || (subformat === undefined && backing !== undefined);
  const metadata: Metadata = {
    blockSize,
    leaveAllocated: subformat === 'fixed',
    hasParent,
    diskSize: alignUp(bytes, sector),
    diskSizeAt: 0,
    diskId: randomUUID(),
    logicalSectorSize: sector,
    physicalSectorSize: 4096,
    parent: undefined,
  };
  const batLength = Math.max(MIB, alignUp(shapeOf(metadata).entries * 8, MIB));
  const metadataAt = LOG_AT + logLength;
  const batAt = metadataAt + MIB;
  if (hasParent && typeof backing !== 'string')
    refuse('option "backing_file" is missing, a differencing image has a parent');
  const source = { format: 'vhdx', option: 'parent-linkage', key: 'data-write-guid' };
  const locator =
    hasParent && typeof backing === 'string'
      ? locatorOf(backing, await parentGuid(context, options, source))
      : undefined;
  return { metadata, logLength, metadataAt, batAt, batLength, end: batAt + batLength, locator };
}

/** The relative path comes first for those who go by the specification; libvhdi looks at the absolute one only. */
function locatorOf(name: string, guid: string): Buffer {
  const windows = name.replaceAll('/', '\\');
  const relative = windows.startsWith('.') ? windows : `.\\${windows}`;
  const path: [string, string][] = posix.isAbsolute(name)
    ? [['absolute_win32_path', windows]]
    : [
        ['relative_path', relative],
        ['absolute_win32_path', windows],
      ];
  return encodeLocator(new Map([['parent_linkage', `{${guid}}`], ...path]));
}

async function writeHeaders(file: Child, plan: Plan): Promise<void> {
  const header = {
    signature: '',
    checksum: 0,
    sequence_number: 1n,
    file_write_guid: randomUUID(),
    data_write_guid: randomUUID(),
    log_guid: NIL_GUID,
    log_version: 0,
    version: 1,
    log_length: plan.logLength,
    log_offset: LOG_AT,
  };
  const regions = encodeRegionTable([
    { guid: BAT_REGION, offset: plan.batAt, length: plan.batLength, required: 1 },
    { guid: METADATA_REGION, offset: plan.metadataAt, length: MIB, required: 1 },
  ]);
  for (const [index, place] of HEADER_PLACES.entries()) {
    await file.write(encodeHeader({ ...header, sequence_number: BigInt(index + 1) }), place);
  }
  for (const place of REGION_PLACES) await file.write(regions, place);
}

function itemsOf({ metadata, locator }: Plan): MetadataItem[] {
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  const parameters = Buffer.alloc(8);
  parameters.writeUInt32LE(metadata.blockSize, 0);
  parameters.writeUInt32LE((metadata.leaveAllocated ? 1 : 0) + (metadata.hasParent ? 2 : 0), 4);
  const diskSize = Buffer.alloc(8);
  writeU64LE(diskSize, metadata.diskSize, 0);
  const id = Buffer.alloc(16);
  writeGuidMixed(id, metadata.diskId ?? NIL_GUID, 0);
  const flags = OF_DISK + REQUIRED;
  return [
    { id: Item.fileParameters, bytes: parameters, flags: REQUIRED },
    { id: Item.diskSize, bytes: diskSize, flags },
    { id: Item.diskId, bytes: id, flags },
    { id: Item.logicalSectorSize, bytes: number(metadata.logicalSectorSize), flags },
    { id: Item.physicalSectorSize, bytes: number(metadata.physicalSectorSize ?? 4096), flags },
    ...(locator === undefined ? [] : [{ id: Item.parentLocator, bytes: locator, flags: REQUIRED }]),
  ];
}

async function allocateAll(file: Child, { metadata, batAt, end }: Plan): Promise<void> {
  const { blocks, ratio, blockSize, entries } = shapeOf(metadata);
  await file.resize(end + blocks * blockSize);
  const perPiece = PIECE / 8;
  for (let first = 0; first < entries; first += perPiece) {
    const count = Math.min(perPiece, entries - first);
    const bytes = Buffer.alloc(count * 8);
    for (let index = 0; index < count; index += 1) {
      const entry = first + index;
      if (entry % (ratio + 1) === ratio) continue;
      const block = entry - Math.floor(entry / (ratio + 1));
      writeU64LE(bytes, end + block * blockSize + State.full, index * 8);
    }
    await file.write(bytes, batAt + first * 8);
  }
}
