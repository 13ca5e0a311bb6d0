import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { checkNewQcow, createQcow, CREATE_OPTIONS } from './create.ts';
import { EncryptedQcowImage } from './encrypted-image.ts';
import { ENCRYPT_OPTIONS, openEncryption } from './encryption.ts';
import { checkHeader, decodeHeader, HEADER_LENGTH, MAGIC } from './header.ts';
import { QcowImage } from './image.ts';

async function open(context: OpenContext<OptionsOf<typeof ENCRYPT_OPTIONS>>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  const bytes = Buffer.alloc(HEADER_LENGTH);
  await file.read(bytes, 0);
  const geometry = checkHeader(bytes, file.size, subject);
  const backingFilename = await backingName(file, bytes);
  if (backingFilename !== undefined) {
    await context.openNamed('backing', { filename: backingFilename, roles: Role.cow, writable: false });
  }
  const encryption = await openEncryption(context, decodeHeader(bytes).crypt_method);
  const parts = { file, subject, geometry, writable: !common.readOnly, backingFilename, encryption };
  return encryption === undefined ? new QcowImage(parts) : new EncryptedQcowImage(parts);
}

async function backingName(file: Child, bytes: Buffer): Promise<string | undefined> {
  const { backing_file_offset: offset, backing_file_size: length } = decodeHeader(bytes);
  if (offset === 0) return undefined;
  const name = Buffer.alloc(length);
  await file.read(name, offset);
  return name.toString();
}

export const qcowDriver = defineDriver({
  name: 'qcow',
  kind: 'format',
  summary: 'QEMU copy-on-write image, version 1',
  options: ENCRYPT_OPTIONS,
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The image file' },
    backing: { roles: Role.cow, required: false, summary: 'The image below this one' },
  },
  probe: (head) =>
    head.length >= HEADER_LENGTH && head.readUInt32BE(0) === MAGIC && head.readUInt32BE(4) === 1 ? 100 : 0,
  open,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNewQcow,
  create: createQcow,
});
