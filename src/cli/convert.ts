import { bool, optional, text } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { parseKeyValues } from './key-values.ts';
import { printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const convertCommand = defineCommand({
  name: 'convert',
  summary: 'Copy an image into another one, of any format that can be written',
  description: ['Holes stay holes, and runs of zeroes become holes.'],
  arguments: [IMAGE_ARGUMENT, { name: 'target', summary: 'File to create; one of that name is replaced' }],
  options: {
    ...IMAGE_OPTIONS,
    'target-format': { schema: optional(text('Format of the target'), 'raw'), value: 'name', short: 'O' },
    'target-options': {
      schema: optional(text('Options to create it with: key=value,...')),
      value: 'list',
      short: 'o',
    },
    compress: { schema: optional(bool('Write compressed clusters, on several cores'), false), short: 'c' },
    snapshot: {
      schema: optional(text('Internal snapshot to copy, instead of the disk as it is')),
      value: 'name',
      short: 'l',
    },
    backing: {
      schema: optional(text('Backing file of the target: only what differs is copied')),
      value: 'file',
      short: 'B',
    },
    'backing-format': { schema: optional(text('Format of that backing file')), value: 'name', short: 'F' },
    'no-create': { schema: optional(bool('The target exists: write into it'), false), short: 'n' },
    'target-is-zero': {
      schema: optional(bool('The existing target reads as zeroes: leave out zeroes'), false),
    },
    ...PROGRESS_OPTION,
    bitmaps: {
      schema: optional(bool('Copy the dirty bitmaps too, except those that are inconsistent'), false),
    },
    json: { schema: optional(bool('Print what was made as JSON'), false) },
  },
  examples: [
    { command: 'blockfuse convert disk.vmdk -O qcow2 disk.qcow2', text: 'Another format' },
    { command: 'blockfuse convert -c -O qcow2 disk.raw small.qcow2', text: 'Compressed' },
    {
      command: 'blockfuse convert -O vmdk -o subformat=streamOptimized disk.qcow2 disk.vmdk',
      text: 'A stream-optimized VMDK, as OVF packages hold it',
    },
  ],
  run: async ({ arguments: [image = '', target = ''], options }) => {
    const { convertImage } = await import('./convert-image.ts');
    const made = await convertImage(image, target, {
      ...options,
      createOptions: parseKeyValues(options['target-options'] ?? ''),
    });
    if (options.json) printJson(made);
    return 0;
  },
});
