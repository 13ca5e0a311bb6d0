import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { checkDmg, masterMismatch } from './check.ts';
import { readTables, SECTOR } from './chunks.ts';
import { DmgImage } from './image.ts';
import { KOLY, KOLY_LENGTH, readKoly } from './koly.ts';
import type { Koly } from './koly.ts';
import { tablesOfXml } from './property-list.ts';
import { tablesOfFork } from './resource-fork.ts';

const ENCRYPTED_HEAD = 'encrcdsa';
const ENCRYPTED_TAIL = 'cdsaencr';

async function open({ subject, ...context }: OpenContext<object>): Promise<MappingDriver> {
  const file = context.child('file');
  const head = await readAt(file, 0, 8);
  const tail = await readAt(file, Math.max(0, file.size - 8), 8);
  if (head.toString('latin1') === ENCRYPTED_HEAD || tail.toString('latin1') === ENCRYPTED_TAIL) {
    refuseImage(subject, 'the image is encrypted', 'which is not supported', 'ENOTSUP');
  }
  if (file.size < KOLY_LENGTH)
    refuseImage(subject, `the file has ${file.size} bytes`, `must have at least ${KOLY_LENGTH}`);
  const koly = readKoly(await readAt(file, file.size - KOLY_LENGTH, KOLY_LENGTH), file.size, subject);
  const { chunks, tables } = readTables(await tableBytes(file, koly, subject), koly, file.size, subject);
  const wrong = masterMismatch(koly, tables);
  if (wrong !== undefined) context.warn(wrong);
  const last = chunks.at(-1);
  const size = koly.sector_count > 0 ? koly.sector_count * SECTOR : (last?.start ?? 0) + (last?.length ?? 0);
  return new DmgImage({ file, subject, chunks, tables, koly, size, unpacker: context.unpacker });
}

async function tableBytes(file: Child, koly: Koly, subject: string): Promise<Buffer[]> {
  if (koly.xml_length > 0) {
    const xml = await readAt(file, koly.xml_offset, koly.xml_length);
    return tablesOfXml(xml.toString(), subject);
  }
  return tablesOfFork(await readAt(file, koly.rsrc_fork_offset, koly.rsrc_fork_length), subject);
}

async function readAt(file: Child, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await file.read(bytes, offset);
  return bytes;
}

function probe(head: Buffer, _filename: string, tail: Buffer): number {
  if (tail.length >= KOLY_LENGTH && tail.readUInt32BE(tail.length - KOLY_LENGTH) === KOLY) return 90;
  if (head.toString('latin1', 0, 8) === ENCRYPTED_HEAD) return 90;
  return tail.length >= 8 && tail.toString('latin1', tail.length - 8) === ENCRYPTED_TAIL ? 80 : 0;
}

export const dmgDriver = defineDriver({
  name: 'dmg',
  kind: 'format',
  summary: 'Apple disk image (UDIF), read only',
  onlyRead: true,
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The image file' },
  },
  probe,
  open,
  check: checkDmg,
});
