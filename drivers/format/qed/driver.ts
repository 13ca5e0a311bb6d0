import type { Child } from '../../../src/block/child.ts';
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
import { checkQed } from './check.ts';
import { checkNewQed, createQed, CREATE_OPTIONS } from './create.ts';
import { checkHeader, Feature, HEADER_LENGTH, MAGIC } from './header.ts';
import type { Header } from './header.ts';
import { QedImage } from './image.ts';

async function open(context: OpenContext<object>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  const bytes = Buffer.alloc(HEADER_LENGTH);
  await file.read(bytes, 0);
  const header = checkHeader(bytes, file.size, subject);
  const backing = await namedBacking(file, header);
  if (backing !== undefined) {
    const format = backing.isRaw ? 'raw' : undefined;
    await context.openNamed('backing', {
      filename: backing.filename,
      format,
      roles: Role.cow,
      writable: false,
    });
  }
  const needsCheck = (header.features & Feature.needCheck) !== 0n;
  if (common.readOnly && needsCheck)
    context.warn('it was not closed cleanly; opening it for writing checks it');
  if (!common.readOnly) await prepareForWriting(context, header);
  return new QedImage({ file, subject, header, writable: !common.readOnly, backing });
}

async function namedBacking(
  file: Child,
  header: Header,
): Promise<{ filename: string; isRaw: boolean } | undefined> {
  if ((header.features & Feature.backingFile) === 0n) return undefined;
  const name = Buffer.alloc(header.backing_filename_size);
  await file.read(name, header.backing_filename_offset);
  return { filename: name.toString(), isRaw: (header.features & Feature.backingIsRaw) !== 0n };
}

/** What the specification asks for before the first write: the check, if one is due. */
async function prepareForWriting(context: OpenContext<object>, header: Header): Promise<void> {
  const { subject } = context;
  const file = context.child('file');
  if ((header.features & Feature.needCheck) !== 0n) {
    const result = await checkQed(file, header, subject, true);
    if (result.shared > 0) {
      const text = `Cannot open image "${subject}": ${result.shared} clusters are used twice, it can only be opened read-only`;
      throw new BlockError('EIO', text);
    }
    await cutLeakedEnd(file, result, header.cluster_size);
    await file.flush();
    context.warn(
      `it was not closed cleanly; checked: ${result.corruptionsFixed} entries repaired, ${result.leaks} clusters leaked, ${result.leaksFixed} cut off`,
    );
  }
}

async function check(opened: OpenDriver, options: CheckOptions): Promise<CheckResult> {
  if (!(opened instanceof QedImage)) throw new TypeError('not an open QED image');
  const { file, header, subject } = opened.parts;
  const writable = opened.isWritable;
  if (writable) await opened.settle();
  const result = await checkQed(file, header, subject, writable && options.repair === 'all');
  if (writable && options.repair !== 'none' && result.shared === 0)
    await cutLeakedEnd(file, result, header.cluster_size);
  return result;
}

export const qedDriver = defineDriver({
  name: 'qed',
  kind: 'format',
  summary: 'QEMU enhanced disk',
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The image file' },
    backing: { roles: Role.cow, required: false, summary: 'The image below this one' },
  },
  probe: (head) => (head.length >= HEADER_LENGTH && head.readUInt32LE(0) === MAGIC ? 100 : 0),
  open,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNewQed,
  create: createQed,
  check,
});
