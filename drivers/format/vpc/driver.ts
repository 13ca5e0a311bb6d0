import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { choice, optional } from '../../../src/block/schema.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { subformats } from '../../../src/block/subformat.ts';
import { checkNew, create, CREATE_OPTIONS } from './create.ts';
import { diskSize } from './disk-size.ts';
import { SectorBitmaps } from './bitmaps.ts';
import { checkHeader, decodeHeader, HEADER_LENGTH } from './dynamic-header.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import { DynamicImage } from './dynamic-image.ts';
import { findFooter } from './find-footer.ts';
import type { FoundFooter } from './find-footer.ts';
import { FixedImage } from './fixed.ts';
import { COOKIE, DiskType, FOOTER_LENGTH, isFooter } from './footer.ts';
import type { Footer } from './footer.ts';
import { VpcImage } from './image.ts';
import { forWriting } from './parts.ts';
import type { VpcParts } from './parts.ts';
import { openParent } from './parent.ts';

const OPTIONS = {
  force_size_calc: optional(
    choice(
      ['chs', 'current_size'],
      'Take the size of the disk from the geometry or from current_size; by creator when left out',
    ),
  ),
};

async function open(context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  const found = await findFooter(file, subject);
  const { footer } = found;
  if (found.tailAt === undefined)
    context.warn('the footer at its end is damaged or missing, the copy at its start is used');
  const size = diskSize(footer, context.options.force_size_calc);
  if (footer.type === DiskType.fixed) return openFixed(context, found, size);
  const headerBytes = await readHeader(context, footer);
  const header = decodeHeader(headerBytes);
  checkHeader(headerBytes, header, { subject, diskSize: size, fileSize: file.size });
  const overlay = footer.type === DiskType.differencing;
  const parts: VpcParts = {
    file,
    footer,
    header,
    parentName: overlay ? await openParent(context, file, header, headerBytes) : undefined,
    subject,
    size,
    sizeCalculation: context.options.force_size_calc,
    tailIsGood: found.tailAt !== undefined,
    copyIsGood: !found.copyDamaged,
    footerAt: found.tailAt ?? alignUp(file.size, 512),
    repairs: [],
    writable: false,
  };
  const settled = common.readOnly ? parts : await forWriting(parts, blockStep(file, header));
  return overlay ? new VpcImage(settled) : new DynamicImage(settled);
}

/** Bytes of a block with its bitmap. */
function blockStep(file: Child, header: DynamicHeader): number {
  return new SectorBitmaps(file, header.block_size).length + header.block_size;
}

function openFixed(
  context: OpenContext<OptionsOf<typeof OPTIONS>>,
  { footer, tailAt }: FoundFooter,
  size: number,
): MappingDriver {
  const { subject, options } = context;
  const { force_size_calc: sizeCalculation } = options;
  const file = context.child('file');
  const room = tailAt ?? 0;
  if (size > room)
    refuseImage(
      subject,
      `the disk has ${size} bytes`,
      `must be at most ${room}, what the file has in front of the footer`,
    );
  return new FixedImage({ file, footer, subject, size, sizeCalculation });
}

async function readHeader(context: OpenContext<unknown>, footer: Footer): Promise<Buffer> {
  const { data_offset: at } = footer;
  const file = context.child('file');
  const inside = at >= FOOTER_LENGTH && at + HEADER_LENGTH <= file.size;
  if (!inside) {
    const is = Number.isNaN(at) ? 'data_offset is none' : `data_offset is ${at}`;
    refuseImage(context.subject, is, `must be from ${FOOTER_LENGTH} to ${file.size - HEADER_LENGTH}`);
  }
  const bytes = Buffer.alloc(HEADER_LENGTH);
  await file.read(bytes, at);
  return bytes;
}

function probe(head: Buffer, _filename: string, tail: Buffer): number {
  if (head.length >= FOOTER_LENGTH && head.toString('latin1', 0, 8) === COOKIE) return 100;
  if (tail.length < FOOTER_LENGTH) return 0;
  const short = Buffer.concat([tail.subarray(1 - FOOTER_LENGTH), Buffer.alloc(1)]);
  return isFooter(tail.subarray(-FOOTER_LENGTH)) || isFooter(short) ? 95 : 0;
}

export const vpcDriver = defineDriver({
  name: 'vpc',
  kind: 'format',
  summary: 'Virtual PC disk image (VHD): fixed, dynamic, differencing',
  subformats: subformats({ dynamic: 'wc', fixed: 'wc', differencing: 'wc' }),
  options: OPTIONS,
  children: {
    file: {
      roles: Role.data | Role.metadata | Role.primary,
      required: true,
      summary: 'The file that holds the image',
    },
    backing: { roles: Role.cow, required: false, summary: 'Parent of a differencing image' },
  },
  probe,
  open,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNew,
  create,
});
