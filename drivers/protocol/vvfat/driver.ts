import { resolve } from 'node:path';
import type { OpenContext, RequestDriver } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { bool, integer, optional, text } from '../../../src/block/schema.ts';
import { crc32c } from '../../../src/util/crc32c.ts';
import { FolderDisk } from './disk.ts';
import type { FatType } from './geometry.ts';
import { chooseGeometry } from './geometry.ts';
import { scanFolder } from './tree.ts';

const OPTIONS = {
  dir: text('Folder of the host'),
  'fat-type': optional(
    integer('Bits of an entry of the FAT: 12, 16 or 32; chosen by size when left out', 12, 32),
  ),
  floppy: optional(bool('A floppy, without partition table'), false),
  label: optional(text('Name of the volume, at most 11 characters'), 'BLOCKFUSE'),
  rw: optional(bool('Writing to the folder; not possible'), false),
};
type Options = OptionsOf<typeof OPTIONS>;

const LABEL = /^(?! )[A-Z0-9 $%'\-_@~`!(){}^#&]{0,11}$/;

async function open({ options }: OpenContext<Options>): Promise<RequestDriver> {
  const { dir, floppy, rw, 'fat-type': type } = options;
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot show folder "${dir}" as a disk: ${why}`);
  };
  if (rw) refuse('rw is on, it can only be read');
  const label = options.label.toUpperCase();
  if (!LABEL.test(label))
    refuse(`label is "${options.label}", must be at most 11 letters, digits, spaces and $%'-_@~\`!(){}^#&`);
  if (type !== undefined && !isFatType(type)) return refuse(`fat-type is ${type}, must be 12, 16 or 32`);
  const folder = resolve(dir);
  const root = await scanFolder(folder, label !== '');
  const geometry = chooseGeometry(root, { type, floppy }, folder);
  return new FolderDisk(root, geometry, { folder, label, serial: crc32c(Buffer.from(folder)) });
}

function isFatType(value: number): value is FatType {
  return value === 12 || value === 16 || value === 32;
}

/** `fat:[floppy:][12:|16:|32:][rw:]folder`, the words in any order. */
function parseFilename(filename: string): Record<string, unknown> {
  const [, words = '', dir = ''] = /^fat:((?:(?:floppy|12|16|32|rw):)*)([^]*)$/.exec(filename) ?? [];
  const options: Record<string, unknown> = { dir };
  for (const word of words.split(':').slice(0, -1)) {
    if (word === 'floppy' || word === 'rw') options[word] = true;
    else options['fat-type'] = Number(word);
  }
  return options;
}

export const vvfatDriver = defineDriver({
  name: 'vvfat',
  kind: 'protocol',
  summary: 'A folder of the host as a FAT disk or floppy, to be read',
  onlyRead: true,
  options: OPTIONS,
  children: {},
  prefixes: ['fat:'],
  parseFilename,
  open,
});
