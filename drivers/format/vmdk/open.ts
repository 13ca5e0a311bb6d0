import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { ContentId } from './content-id.ts';
import { isDescriptor, MAX_DESCRIPTOR, NO_PARENT, parseDescriptor } from './descriptor.ts';
import type { Descriptor } from './descriptor.ts';
import type { DiskExtent } from './disk-extent.ts';
import type { ExtentLine, ExtentType } from './extent-line.ts';
import { VmdkImage } from './image.ts';
import { SECTOR } from './layout.ts';
import { Need } from './need.ts';
import { openExtents } from './open-extents.ts';
import type { ExtentPlan } from './open-extents.ts';
import { openParent } from './parent.ts';
import { isCowd } from './cowd-header.ts';
import { hasTables, readAt, readHead } from './read-header.ts';
import { SharedState } from './shared.ts';
import { isSparse, parseSparseHeader } from './sparse-header.ts';
import { WriteGate } from './write-gate.ts';

/** A descriptor and where it stands in the image file. */
interface Source {
  readonly descriptor: Descriptor;
  readonly contentId: ContentId | undefined;
  readonly plans: readonly ExtentPlan[];
  /** Bytes that the descriptor may have, where it has a place of its own in the file. */
  readonly room?: number;
}

export async function openVmdk(context: OpenContext<object>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  const source = await readSource(context, file);
  const { descriptor, contentId, plans } = source;
  await openParent(context, descriptor);
  const need = new Need();
  const gate = new WriteGate(need, file, contentId);
  refuseUnknown(context, descriptor);
  const shared = new SharedState({
    subject,
    need,
    gate,
    unpacker: context.unpacker,
    hasBacking: () => file.parent.parentNode?.cow !== undefined,
    warn: (message) => {
      context.warn(message);
    },
  });
  const { extents, lacksWriting } = await openExtents(context, shared, plans);
  const obstacle = obstacleTo(subject, extents, plans);
  if (obstacle !== undefined && !common.readOnly && !common.autoReadOnly)
    throw new BlockError('EROFS', obstacle);
  const { createType, cid, parentCid, parentFileNameHint } = descriptor;
  const facts = { createType, contentId, cid, parentCid, parentFileNameHint };
  const readOnly = obstacle !== undefined || lacksWriting;
  return new VmdkImage({
    ...{ subject, extents, need, facts, obstacle, gate },
    descriptor: contentId && { file, at: contentId.base, room: source.room, contentId },
    readOnly: readOnly && !common.readOnly,
    caches: () => [shared.inflated.counters()],
  });
}

/** What a descriptor may ask for that is not done here. */
function refuseUnknown(context: OpenContext<object>, { entries }: Descriptor): void {
  const encrypted = [...entries.keys()].find((key) => key.startsWith('encryption'));
  if (encrypted !== undefined)
    refuseImage(context.subject, `the descriptor has "${encrypted}"`, 'encrypted disks are not supported');
  if (context.common.readOnly || !entries.has('changetrackpath')) return;
  context.warn('changed block tracking is on, and not kept: the next backup by it must be a full one');
}

async function readSource(context: OpenContext<object>, file: Child): Promise<Source> {
  const { subject } = context;
  const head = await readHead(file);
  if (isSparse(head)) return readEmbedded(context, file, head);
  if (hasTables(head)) return alone(context, file, isCowd(head) ? 'VMFSSPARSE' : 'SESPARSE', 0);
  if (!isDescriptor(head)) {
    refuseImage(subject, 'it is no VMDK', 'must begin with "KDMV", "COWD" or "# Disk DescriptorFile"');
  }
  if (file.size > MAX_DESCRIPTOR) {
    refuseImage(subject, `the descriptor has ${file.size} bytes`, `must have at most ${MAX_DESCRIPTOR}`);
  }
  const bytes = await readAt(file, 0, file.size);
  const descriptor = parseDescriptor(bytes, subject);
  if (descriptor.extents.length === 0)
    refuseImage(subject, 'the descriptor has no extents', 'must have one or more');
  const plans = descriptor.extents.map((line) => ({ line, own: undefined }));
  return { descriptor, contentId: new ContentId(bytes, 0, descriptor.cid), plans };
}

/** A sparse extent with the descriptor inside it, or one that has none. */
async function readEmbedded(context: OpenContext<object>, file: Child, head: Buffer): Promise<Source> {
  const { subject } = context;
  const header = parseSparseHeader(head, subject);
  if (header.descriptorOffset === 0) return alone(context, file, 'SPARSE', header.capacity);
  const at = header.descriptorOffset * SECTOR;
  const length = header.descriptorSize * SECTOR;
  if (length > MAX_DESCRIPTOR || at + length > file.size) {
    const wanted = `must have at most ${MAX_DESCRIPTOR} bytes and lie inside the file of ${file.size} bytes`;
    refuseImage(subject, `the descriptor is at byte ${at} with ${length} bytes`, wanted);
  }
  const bytes = await readAt(file, at, length);
  const descriptor = parseDescriptor(bytes, subject);
  const contentId = new ContentId(bytes, at, descriptor.cid);
  const plans = embeddedPlans(descriptor, file, header.capacity, subject);
  return { descriptor, contentId, plans, room: length };
}

/** The file that holds the descriptor is its first sparse extent, whatever it is called today. */
function embeddedPlans(descriptor: Descriptor, file: Child, capacity: number, subject: string): ExtentPlan[] {
  const { extents } = descriptor;
  if (capacity === 0) return extents.map((line) => ({ line, own: undefined }));
  const first = extents.findIndex((line) => line.type === 'SPARSE');
  if (extents.length > 0 && first < 0) {
    refuseImage(
      subject,
      'no extent of its descriptor is SPARSE',
      'the one that holds the descriptor must be',
    );
  }
  if (extents.length === 0) return [{ line: ownLine('SPARSE', capacity, subject), own: file }];
  return extents.map((line, index) => ({ line, own: index === first ? file : undefined }));
}

/** One extent of a disk of several, or one whose descriptor is lost: shown as a disk of its own. */
function alone(context: OpenContext<object>, file: Child, type: ExtentType, sectors: number): Source {
  const descriptor: Descriptor = {
    cid: NO_PARENT,
    parentCid: NO_PARENT,
    createType: '',
    parentFileNameHint: undefined,
    extents: [],
    entries: new Map(),
  };
  if (sectors === 0 && type === 'SPARSE') {
    refuseImage(context.subject, 'it has neither a capacity nor a descriptor', 'must have one of them');
  }
  context.warn('this is an extent without a descriptor: it is shown alone, without a parent');
  return {
    descriptor,
    contentId: undefined,
    plans: [{ line: ownLine(type, sectors, context.subject), own: file }],
  };
}

const ownLine = (type: ExtentType, sectors: number, filename: string): ExtentLine => ({
  access: 'RW',
  sectors,
  type,
  filename,
  offset: 0,
});

/** Why the disk can't be written: an extent that the descriptor calls RW has no writer here. */
function obstacleTo(
  subject: string,
  extents: readonly DiskExtent[],
  plans: readonly ExtentPlan[],
): string | undefined {
  const blocked = extents.find((extent, index) => plans[index]?.line.access === 'RW' && !extent.canWrite);
  if (blocked === undefined) return undefined;
  const { filename, format, compressed } = blocked.description;
  const why =
    compressed === true
      ? 'streamOptimized, its grains are compressed'
      : `${format}, of which no writer is here`;
  return `Cannot open image "${subject}" for writing: extent "${filename}" is ${why}; open it with read-only=on`;
}
