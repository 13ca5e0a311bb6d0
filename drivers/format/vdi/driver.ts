import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { subformats } from '../../../src/block/subformat.ts';
import { BlockMap } from './block-map.ts';
import { checkImage } from './check.ts';
import { checkNew, create, CREATE_OPTIONS } from './create.ts';
import { checkHeader } from './header-check.ts';
import { decodeHeader, HEADER_LENGTH, ImageType, isOverlay, SIGNATURE } from './header.ts';
import { VdiImage } from './image.ts';
import { openParent } from './parent.ts';
import { SparseVdiImage } from './sparse-image.ts';
import { readUsage } from './usage.ts';

async function open(context: OpenContext<unknown>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  const bytes = Buffer.alloc(HEADER_LENGTH);
  if (file.size < HEADER_LENGTH)
    refuseImage(subject, `the file has ${file.size} bytes`, `must have a header of ${HEADER_LENGTH}`);
  await file.read(bytes, 0);
  const header = decodeHeader(bytes);
  checkHeader(header, file.size, subject);
  if (isOverlay(header)) await openParent(context, header);
  const usage = common.readOnly
    ? undefined
    : await readUsage(new BlockMap(file, header, subject), header, { size: file.size, subject });
  if (header.image_type !== ImageType.fixed) return new SparseVdiImage(file, header, subject, usage);
  return new VdiImage(file, header, subject, usage);
}

export const vdiDriver = defineDriver({
  name: 'vdi',
  kind: 'format',
  summary: 'VirtualBox disk image: dynamic, fixed, differencing',
  subformats: subformats({ dynamic: 'wc', fixed: 'wc', differencing: 'wc' }),
  options: {},
  children: {
    file: {
      roles: Role.data | Role.metadata | Role.primary,
      required: true,
      summary: 'The file that holds the image',
    },
    backing: { roles: Role.cow, required: false, summary: 'Parent of a differencing image' },
  },
  probe: (head) => (head.length >= HEADER_LENGTH && head.readUInt32LE(0x40) === SIGNATURE ? 100 : 0),
  open,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNew,
  create,
  check: checkImage,
});
