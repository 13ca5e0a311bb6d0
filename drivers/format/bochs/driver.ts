import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { subformats } from '../../../src/block/subformat.ts';
import { HEADER_LENGTH, readLayout, REDOLOG_MAGIC, SPARSE_MAGIC, textAt } from './header.ts';
import { BochsImage } from './image.ts';

async function open({ subject, ...context }: OpenContext<object>): Promise<MappingDriver> {
  const file = context.child('file');
  const bytes = Buffer.alloc(HEADER_LENGTH);
  await file.read(bytes, 0);
  const layout = readLayout(bytes, subject);
  const end = layout.tableOffset + layout.tableEntries * 4;
  if (end > file.size)
    refuseImage(subject, `the table ends at ${end}`, `must end inside the file (${file.size} bytes)`);
  return new BochsImage(file, layout, subject);
}

function probe(head: Buffer): number {
  if (head.length < HEADER_LENGTH) return 0;
  if (textAt(head, 0, 32) === REDOLOG_MAGIC && textAt(head, 32, 16) === 'Redolog') return 100;
  const version = head.readUInt32LE(4);
  return head.readUInt32LE(0) === SPARSE_MAGIC && (version === 1 || version === 2) ? 90 : 0;
}

export const bochsDriver = defineDriver({
  name: 'bochs',
  kind: 'format',
  summary: 'Bochs disk image, growing or sparse, read only',
  onlyRead: true,
  subformats: subformats({ growing: '', sparse: '' }),
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The image file' },
  },
  probe,
  open,
});
