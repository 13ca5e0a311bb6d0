import type {
  CheckOptions,
  CheckResult,
  MappingDriver,
  OpenContext,
  OpenDriver,
} from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { cutLeakedEnd } from '../../../src/block/leaked-end.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { checkBat } from './check.ts';
import { checkNewParallels, createParallels, CREATE_OPTIONS } from './create.ts';
import { checkHeader, decodeHeader, HEADER_LENGTH, InUse, MAGIC_V1, MAGIC_V2 } from './header.ts';
import type { Geometry, Header } from './header.ts';
import { ParallelsImage } from './image.ts';

async function open(context: OpenContext<object>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  const bytes = Buffer.alloc(HEADER_LENGTH);
  await file.read(bytes, 0);
  const header = decodeHeader(bytes);
  const geometry = checkHeader(header, file.size, subject);
  const unclean = header.in_use === InUse.open;
  if (common.readOnly && unclean) context.warn('it was not closed cleanly; opening it for writing checks it');
  if (!common.readOnly) await prepareForWriting(context, header, geometry);
  return new ParallelsImage({ file, subject, header, geometry, writable: !common.readOnly });
}

/** An extension (dirty bitmaps) would be wrong after a write that does not keep it; an unclean image is checked first. */
async function prepareForWriting(
  context: OpenContext<object>,
  header: Header,
  geometry: Geometry,
): Promise<void> {
  const { subject } = context;
  if (header.ext_off !== 0) {
    const wanted = 'a format extension (dirty bitmaps) is not supported for writing; open it read-only';
    refuseImage(subject, `ext_off is ${header.ext_off}`, wanted, 'ENOTSUP');
  }
  if (header.in_use !== InUse.open) return;
  const file = context.child('file');
  const result = await checkBat(file, geometry, subject, true);
  if (result.shared > 0) {
    const text = `Cannot open image "${subject}": ${result.shared} clusters are used twice, it can only be opened read-only`;
    throw new BlockError('EIO', text);
  }
  await cutLeakedEnd(file, result, geometry.clusterSize);
  await file.flush();
  context.warn(
    `it was not closed cleanly; checked: ${result.corruptionsFixed} entries repaired, ${result.leaks} clusters leaked, ${result.leaksFixed} cut off`,
  );
}

async function check(opened: OpenDriver, options: CheckOptions): Promise<CheckResult> {
  if (!(opened instanceof ParallelsImage)) throw new TypeError('not an open Parallels image');
  const { file, geometry, subject } = opened.parts;
  const writable = opened.isWritable;
  if (writable) await opened.settle();
  const result = await checkBat(file, geometry, subject, writable && options.repair === 'all');
  if (writable && options.repair !== 'none' && result.shared === 0)
    await cutLeakedEnd(file, result, geometry.clusterSize);
  return result;
}

function probe(head: Buffer): number {
  const magic = head.toString('latin1', 0, 16);
  return head.length >= HEADER_LENGTH && (magic === MAGIC_V1 || magic === MAGIC_V2) ? 100 : 0;
}

export const parallelsDriver = defineDriver({
  name: 'parallels',
  kind: 'format',
  summary: 'Parallels expandable disk image, version 1 and 2',
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The image file' },
  },
  probe,
  open,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNewParallels,
  create: createParallels,
  check,
});
