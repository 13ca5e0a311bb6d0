import { bool, optional, text } from '../block/schema.ts';
import { defineCommand, repeated } from './command.ts';
import { IMAGE_OPTIONS } from './image-arguments.ts';
import { printJson } from './output.ts';
import { parseKeyValueLists } from './key-values.ts';
import { PROGRESS_OPTION } from './progress-option.ts';
import { SECRET_OPTIONS } from './secrets.ts';

export const createCommand = defineCommand({
  name: 'create',
  summary: 'Create an empty image',
  description: [
    'The options of a format (-o) have the names that "qemu-img create" knows; a wrong one is answered by the list.',
    'With a backing file the size may be left out: it is that of the backing file. The format of that file is ' +
      'found out and noted in the image unless it is given.',
  ],
  arguments: [
    { name: 'image', summary: 'File to create; one of that name is replaced' },
    { name: 'size', summary: 'Size of the disk in bytes, or with a suffix (k, M, G, T)', optional: true },
  ],
  options: {
    format: { schema: optional(text('Format of the new image'), 'qcow2'), value: 'name', short: 'f' },
    backing: {
      schema: optional(text('Backing file, as the image is to name it')),
      value: 'file',
      short: 'b',
    },
    'backing-format': { schema: optional(text('Format of the backing file')), value: 'name', short: 'F' },
    unsafe: { schema: optional(bool('Name a backing file that is not looked at'), false), short: 'u' },
    options: {
      schema: repeated('Options of the format: key=value,...; may be given several times'),
      value: 'list',
      short: 'o',
      repeat: true,
    },
    follow: IMAGE_OPTIONS.follow,
    ...SECRET_OPTIONS,
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print what was made as JSON'), false) },
  },
  examples: [
    { command: 'blockfuse create disk.qcow2 20G', text: 'An empty qcow2 disk of 20 GiB' },
    { command: 'blockfuse create -b base.qcow2 -F qcow2 top.qcow2', text: 'An overlay over base.qcow2' },
    {
      command: 'blockfuse create -f vmdk -o subformat=monolithicFlat disk.vmdk 1G',
      text: 'With an option of the format',
    },
  ],
  run: async ({ arguments: [image = '', sizeText], options }) => {
    const { createNewImage } = await import('./create-command.ts');
    const values = { ...options, format: undefined, 'image-opts': false, 'force-share': false };
    const made = await createNewImage(values, {
      image,
      size: sizeText,
      format: options.format,
      backing: options.backing,
      backingFormat: options['backing-format'],
      unsafe: options.unsafe,
      options: parseKeyValueLists(options.options),
    });
    if (options.json) printJson(made);
    return 0;
  },
});
