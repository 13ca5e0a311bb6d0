import type { CreateContext, NewImageContext, SequentialWriter } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { bool, choice, optional, text } from '../../../src/block/schema.ts';
import { newContentId } from './content-id.ts';
import { DESCRIPTOR_SECTORS, directoryEntriesFor, writeSparse } from './create-sparse.ts';
import { NO_PARENT } from './descriptor.ts';
import { descriptorText } from './descriptor-text.ts';
import type { ExtentLine } from './extent-line.ts';
import { MAX_DIRECTORIES } from './geometry.ts';
import { SECTOR } from './layout.ts';
import { StreamWriter } from './stream-writer.ts';

const SUBFORMATS = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'vmfs',
  'streamOptimized',
] as const;
type Subformat = (typeof SUBFORMATS)[number];

export const CREATE_OPTIONS = {
  subformat: optional(
    choice(
      SUBFORMATS,
      'How the disk is kept in files; streamOptimized is written front to back by convert, and only read after that',
    ),
    'monolithicSparse',
  ),
  adapter_type: optional(
    choice(['ide', 'buslogic', 'lsilogic', 'legacyESX'], 'Adapter that the disk is to be attached to'),
    'ide',
  ),
  hwversion: optional(text('Virtual hardware version'), '4'),
  compat6: optional(bool('The same as hwversion=6'), false),
  toolsversion: optional(text('Version of VMware Tools in the guest'), '2147483647'),
  zeroed_grain: optional(bool('Mark zeroes over a parent in the tables, instead of storing them'), false),
  backing_file: optional(text('Name of the parent, as the image is to hold it')),
  backing_fmt: optional(choice(['vmdk'], 'Format of the parent')),
  'parent-cid': optional(text('Content ID of the parent in hexadecimal digits; taken from it when left out')),
};

/** 2047 MiB, so that the file of a sparse extent stays below 2 GiB with its tables. */
const SPLIT = 4192256;
const FIRST = 1;

type Context = CreateContext<Readonly<Record<string, unknown>>>;
interface PlannedDisk {
  readonly subformat: Subformat;
  readonly sectors: number;
  readonly extents: readonly NewExtent[];
  readonly descriptor: Buffer;
  readonly zeroedGrains: boolean;
}
type NewExtent = Pick<ExtentLine, 'sectors' | 'type' | 'filename'>;

export async function createVmdk(context: Context): Promise<void> {
  const disk = await planDisk(context);
  const { subformat, sectors, extents, descriptor, zeroedGrains } = disk;
  const { file } = context;
  if (subformat === 'streamOptimized') {
    const writer = await beginStream(file, disk);
    await writer.finish();
  } else if (subformat === 'monolithicSparse') {
    await writeSparse(file, { sectors, descriptor, zeroedGrains });
  } else {
    for (const extent of extents) await writeExtent(context, extent, zeroedGrains);
    await file.write(descriptor, 0);
    await file.flush();
  }
}

/** Contract: Driver.createSequential. */
export async function createStream(context: Context): Promise<SequentialWriter | undefined> {
  if (context.options['subformat'] !== 'streamOptimized') return undefined;
  return beginStream(context.file, await planDisk(context));
}

async function beginStream(file: Context['file'], disk: PlannedDisk): Promise<StreamWriter> {
  const writer = new StreamWriter(file, disk.sectors);
  await writer.begin(disk.descriptor);
  return writer;
}

/** Contract: Driver.checkCreate. */
export async function checkNewVmdk(context: NewImageContext): Promise<void> {
  await planDisk(context);
}

async function planDisk(context: NewImageContext): Promise<PlannedDisk> {
  const { options, subject } = context;
  const subformat = options['subformat'] as Subformat;
  const sectors = Math.ceil(context.size / SECTOR);
  if (directoryEntriesFor(sectors) * 8 > MAX_DIRECTORIES) {
    refuse(subject, `size is ${context.size}, must be at most ${MAX_DIRECTORIES / 8} * 32 MiB`);
  }
  const own = subformat === 'monolithicSparse' || subformat === 'streamOptimized';
  if (!own && context.isAlone === true)
    refuse(subject, `subformat is ${subformat}, but no further file can be made here`);
  if (sectors === 0) refuse(subject, 'size is 0, must be at least one sector');
  const name = baseName(subject);
  const extents = extentsOf(subformat, sectors, name);
  const descriptor = Buffer.from(await makeDescriptor(context, { subformat, sectors, extents }));
  if (own && descriptor.length > DESCRIPTOR_SECTORS * SECTOR) {
    refuse(
      subject,
      `the descriptor has ${descriptor.length} bytes, must have at most ${DESCRIPTOR_SECTORS * SECTOR}`,
    );
  }
  return { subformat, sectors, extents, descriptor, zeroedGrains: options['zeroed_grain'] === true };
}

async function writeExtent(context: Context, extent: NewExtent, zeroedGrains: boolean): Promise<void> {
  const file = await context.createFile(extent.filename ?? '');
  if (extent.type === 'SPARSE') {
    await writeSparse(file, { sectors: extent.sectors, descriptor: undefined, zeroedGrains });
    return;
  }
  await file.resize(extent.sectors * SECTOR);
  await file.flush();
}

function extentsOf(subformat: Subformat, sectors: number, name: string): NewExtent[] {
  const stem = name.replace(/\.vmdk$/i, '');
  switch (subformat) {
    case 'monolithicSparse':
    case 'streamOptimized':
      return [{ sectors, type: 'SPARSE', filename: name }];
    case 'monolithicFlat':
      return [{ sectors, type: 'FLAT', filename: `${stem}-flat.vmdk` }];
    case 'vmfs':
      return [{ sectors, type: 'VMFS', filename: `${stem}-flat.vmdk` }];
    case 'twoGbMaxExtentSparse':
      return split(sectors, (number) => ({ type: 'SPARSE', filename: `${stem}-s${number}.vmdk` }));
    case 'twoGbMaxExtentFlat':
      return split(sectors, (number) => ({ type: 'FLAT', filename: `${stem}-f${number}.vmdk` }));
  }
}

function split(sectors: number, one: (number: string) => Pick<ExtentLine, 'type' | 'filename'>): NewExtent[] {
  return Array.from({ length: Math.ceil(sectors / SPLIT) }, (_, index) => ({
    sectors: Math.min(SPLIT, sectors - index * SPLIT),
    ...one(String(index + FIRST).padStart(3, '0')),
  }));
}

async function makeDescriptor(
  context: NewImageContext,
  disk: { subformat: Subformat; sectors: number; extents: readonly NewExtent[] },
): Promise<string> {
  const { options, subject } = context;
  const option = (name: string): string | undefined => {
    const value = options[name];
    if (typeof value !== 'string') return undefined;
    if (/["\r\n\0]/.test(value)) refuse(subject, `${name} holds a quote or a line end`);
    return value;
  };
  const hint = option('backing_file');
  const flat = disk.extents.some(({ type }) => type !== 'SPARSE');
  if (hint !== undefined && (flat || disk.subformat === 'streamOptimized')) {
    refuse(subject, `a ${disk.subformat} image has no parent, backing_file must be left out`);
  }
  return descriptorText({
    cid: newContentId(),
    parentCid: await parentCid(context, hint, option('parent-cid')),
    parentFileNameHint: hint,
    createType: disk.subformat,
    extents: disk.extents,
    sectors: disk.sectors,
    adapterType: option('adapter_type') ?? 'ide',
    hardwareVersion: options['compat6'] === true ? '6' : (option('hwversion') ?? '4'),
    toolsVersion: option('toolsversion') ?? '2147483647',
  });
}

async function parentCid(
  context: NewImageContext,
  hint: string | undefined,
  given: string | undefined,
): Promise<number> {
  const { subject } = context;
  if (hint === undefined) return NO_PARENT;
  if (given !== undefined) {
    if (/^[0-9a-f]{1,8}$/i.test(given)) return Number.parseInt(given, 16);
    refuse(subject, `parent-cid is "${given}", must be 1 to 8 hexadecimal digits`);
  }
  const info = await context.describe?.(hint, 'vmdk');
  const cid = info?.formatSpecific?.['cid'];
  if (typeof cid === 'number' && cid !== NO_PARENT) return cid;
  return refuse(subject, `the parent "${hint}" has no content ID, it must be given as parent-cid`);
}

/** The last part of the path, as it can stand in a descriptor. */
function baseName(subject: string): string {
  const name = subject.slice(subject.lastIndexOf('/') + 1);
  if (name === '' || /["\r\n\0]/.test(name))
    refuse(subject, 'the file name holds a quote or a line end, or is empty');
  return name;
}

function refuse(subject: string, what: string): never {
  throw new BlockError('EINVAL', `Cannot create "${subject}": ${what}`);
}
