import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { Role } from '../../../src/block/permissions.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import type { BitmapList } from './bitmap/list.ts';
import { describeBitmaps, openBitmaps } from './bitmap/open.ts';
import { buildReader, buildWriter } from './build.ts';
import { Qcow2Disk } from './disk.ts';
import type { DiskParts } from './disk.ts';
import { openEncryption } from './encryption.ts';
import type { Encryption } from './encryption.ts';
import { ExtensionArea } from './extension-area.ts';
import { parseExtensions } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import { Incompatible } from './features.ts';
import { geometryOf } from './geometry.ts';
import { changeBackingName } from './change-backing.ts';
import { checkHeader, checkHeaderBasics } from './header-check.ts';
import { HeaderBlock } from './header-block.ts';
import { decodeHeader, V2_LENGTH } from './header.ts';
import type { Header } from './header.ts';
import { Image } from './image.ts';
import { imageInfo, namesInImage } from './info.ts';
import type { NamesInImage } from './info.ts';
import { cacheSizes, sliceSizeOption } from './options.ts';
import type { Qcow2Options } from './options.ts';
import { overlapKinds } from './overlap-modes.ts';
import type { MetadataKind } from './overlap-modes.ts';
import { rebuildRefcounts } from './rebuild-refcounts.ts';
import { findSnapshot } from './snapshot/find.ts';
import { readSnapshotL1 } from './snapshot/view.ts';
import { readSnapshots, SnapshotList } from './snapshots.ts';
import type { SnapshotTable } from './snapshots.ts';

/** Enough for every header field and, in most images, all extensions. */
const FIRST_READ = 4096;

interface Head {
  readonly header: Header;
  readonly extensions: readonly HeaderExtension[];
  names: NamesInImage;
  readonly bytes: Buffer;
}

export async function openQcow2(context: OpenContext<Qcow2Options>): Promise<MappingDriver> {
  const { subject, options, common } = context;
  const file = context.child('file');
  const head = await readHead(file, subject, options['x-repair']);
  const { header, names } = head;
  sliceSizeOption(options, subject);
  const writable = decideWritable(context, header);
  const dataFile = await openDataFile(context, header, names);
  await openBacking(context, names);
  const encryption = await openEncryption(context, header, head.extensions);
  const block = new HeaderBlock(file, head.bytes, header);
  const area = new ExtensionArea({ file, header: block, list: head.extensions, subject });
  const assembly = {
    subject,
    file,
    dataFile,
    head,
    header: block,
    area,
    bitmaps: await openBitmaps(context, { file, header, extensions: head.extensions }, writable),
    encryption,
    unpacker: context.unpacker,
    onCorrupt: (what: string) => {
      const about = { device: '', 'node-name': context.nodeName, msg: what, fatal: writable };
      context.event('BLOCK_IMAGE_CORRUPTED', about);
    },
  };
  const parts = await assemble(assembly, { options, discard: common.discard, writable });
  const dirty = (header.incompatible_features & Incompatible.dirty) !== 0n;
  if (dirty && parts.writer !== undefined && !options['x-repair']) {
    context.warn('the image was not closed properly: its refcounts are rebuilt');
    await rebuildRefcounts(parts);
  }
  return new Qcow2Disk(parts, (next, nextOptions) => {
    const { discard, readOnly } = next;
    return assemble(assembly, { options: nextOptions, discard, writable: !readOnly });
  });
}

/** What stays the same however the image is reopened. */
interface Assembly {
  readonly subject: string;
  readonly file: Child;
  readonly dataFile: Child | undefined;
  readonly head: Head;
  readonly header: HeaderBlock;
  readonly area: ExtensionArea;
  readonly bitmaps: BitmapList;
  readonly encryption: Encryption | undefined;
  readonly unpacker: UnpackService;
  readonly onCorrupt: (what: string) => void;
}

interface Mode {
  readonly options: Qcow2Options;
  readonly discard: CommonOptions['discard'];
  readonly writable: boolean;
}

/** Reads the tables and puts the parts together; writes nothing. */
async function assemble(assembly: Assembly, mode: Mode): Promise<DiskParts> {
  const { subject, file, dataFile, head, header, area, bitmaps, encryption } = assembly;
  const { options, writable } = mode;
  const geometry = geometryOf(header.fields, sliceSizeOption(options, subject));
  const image = new Image({
    subject,
    file,
    dataFile,
    header,
    extensions: area,
    bitmaps,
    geometry,
    writable: writable && options.snapshot === undefined,
    codec: encryption?.codec,
    unpacker: assembly.unpacker,
    hasBacking: () => file.parent.parentNode?.cow !== undefined,
    onCorrupt: assembly.onCorrupt,
  });
  const sizes = cacheSizes(options, header.fields, {
    slice: geometry.sliceSize,
    page: geometry.pageSize,
    entry: geometry.entrySize,
  });
  const cleanSeconds = options['cache-clean-interval'];
  const snapshots = await listSnapshots(image, options);
  const info = () =>
    imageInfo(
      header.fields,
      { ...head.names, encrypt: encryption?.details, bitmaps: describeBitmaps(bitmaps) },
      snapshots.snapshots,
    );
  const wipe = () => encryption?.wipe();
  const changeBacking = async (backing: string | undefined, backingFormat: string | undefined) => {
    const name = { filename: backing, format: backingFormat };
    area.list = await changeBackingName(image, area.list, name);
    head.names = { ...head.names, backing, backingFormat };
  };
  const { luks } = encryption ?? {};
  const rest = { image, snapshots, bitmaps, area, info, wipe, cleanSeconds, changeBacking, luks };
  if (!writable || options.snapshot !== undefined) {
    const l1 = await snapshotL1(image, snapshots, options);
    const opening = { sizes, repairs: options['x-repair'] };
    return { ...rest, reader: await buildReader(image, opening, l1), writer: undefined };
  }
  const policy = {
    request: options['pass-discard-request'] ?? mode.discard === 'unmap',
    snapshot: options['pass-discard-snapshot'],
    other: options['pass-discard-other'],
  };
  const keepsPlaces = keepsPlacesOption(options, geometry.version, subject);
  // A repair mends what is found, and must not be stopped by it.
  const overlap = options['x-repair'] ? new Set<MetadataKind>() : overlapKinds(options);
  const repairs = options['x-repair'];
  const writing = { sizes, repairs, snapshots, bitmaps, policy, keepsPlaces, overlap };
  return { ...rest, ...(await buildWriter(image, writing)) };
}

/** A repair looks at the table by itself. */
async function listSnapshots({ file, header, subject }: Image, options: Qcow2Options): Promise<SnapshotList> {
  try {
    return await readSnapshots(file, header.fields, subject);
  } catch (error) {
    if (options['x-repair'] && error instanceof BlockError && error.code === 'EINVAL')
      return new SnapshotList([], 0);
    throw error;
  }
}

function keepsPlacesOption(options: Qcow2Options, version: number, subject: string): boolean {
  if (options['discard-no-unref'] && version < 3) {
    const what =
      'discard-no-unref is on, which needs version 3 (compat=1.1): there are no zero clusters in version 2';
    throw new BlockError('EINVAL', `Cannot open image "${subject}": ${what}`);
  }
  return options['discard-no-unref'];
}

/** The table of the snapshot that the options ask for; the image is that of the snapshot then. */
async function snapshotL1(
  image: Image,
  snapshots: SnapshotTable,
  { snapshot: wanted }: Qcow2Options,
): Promise<Buffer | undefined> {
  if (wanted === undefined) return undefined;
  const asked = { action: `open snapshot "${wanted}"`, subject: image.subject };
  const snapshot = findSnapshot(snapshots, wanted, asked);
  image.size = snapshot.diskSize;
  return readSnapshotL1(image, snapshot);
}

async function readHead(file: Child, subject: string, repairs: boolean): Promise<Head> {
  const first = Buffer.alloc(FIRST_READ);
  await file.read(first, 0);
  const header = decodeHeader(first);
  checkHeaderBasics(header, subject);
  const clusterSize = 2 ** header.cluster_bits;
  const bytes =
    clusterSize <= FIRST_READ ? first.subarray(0, clusterSize) : await readRest(file, first, clusterSize);
  const { backing_file_offset: nameAt } = header;
  const end = nameAt > 0 && nameAt < clusterSize ? nameAt : clusterSize;
  const start = header.version === 2 ? V2_LENGTH : header.header_length;
  const extensions = parseExtensions(bytes, start, end, subject);
  checkHeader(header, extensions, { subject, repairs });
  return { header, extensions, names: namesInImage(header, extensions, bytes), bytes };
}

async function readRest(file: Child, first: Buffer, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  first.copy(bytes);
  await file.read(bytes.subarray(first.length), first.length);
  return bytes;
}

/** A corrupt image may be read, and written only by a repair. */
function decideWritable(context: OpenContext<Qcow2Options>, header: Header): boolean {
  const { readOnly, autoReadOnly } = context.common;
  const corrupt = (header.incompatible_features & Incompatible.corrupt) !== 0n;
  if (context.options.snapshot !== undefined) return false;
  if (readOnly || !corrupt || context.options['x-repair']) return !readOnly;
  const what = 'the corrupt bit is set';
  if (!autoReadOnly) {
    const text = `Cannot open image "${context.subject}" for writing: ${what}, must be clear; check and repair it first`;
    throw new BlockError('EACCES', text);
  }
  context.warn(`${what}: opened read-only`);
  return false;
}

async function openDataFile(
  context: OpenContext<Qcow2Options>,
  header: Header,
  names: NamesInImage,
): Promise<Child | undefined> {
  if ((header.incompatible_features & Incompatible.dataFile) === 0n) return undefined;
  const reference = { filename: names.dataFile ?? '', format: 'raw', roles: Role.data, writable: true };
  const child = await context.openNamed('data-file', reference);
  if (child !== undefined) return child;
  const what = 'it keeps its data in an external file, option "data-file" must name it';
  throw new BlockError('EINVAL', `Cannot open image "${context.subject}": ${what}`);
}

async function openBacking(context: OpenContext<Qcow2Options>, names: NamesInImage): Promise<void> {
  await context.openNamed('backing', {
    filename: names.backing ?? '',
    format: names.backingFormat,
    roles: Role.cow,
    writable: false,
  });
}
