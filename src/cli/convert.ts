import { bool, choice, integer, optional, size, text } from '../block/schema.ts';
import { defineCommand, repeated } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { parseKeyValueLists } from './key-values.ts';
import { printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const convertCommand = defineCommand({
  name: 'convert',
  summary: 'Copy an image into another one, of any format that can be written',
  description: [
    'Holes stay holes, and runs of zeroes become holes. When it is interrupted or fails the new file is removed.',
  ],
  arguments: [IMAGE_ARGUMENT, { name: 'target', summary: 'File to create; one of that name is replaced' }],
  options: {
    ...IMAGE_OPTIONS,
    'target-format': { schema: optional(text('Format of the target'), 'raw'), value: 'name', short: 'O' },
    'target-options': {
      schema: repeated('Options to create it with: key=value,...; may be given several times'),
      value: 'list',
      short: 'o',
      repeat: true,
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
    'target-image-opts': {
      schema: optional(
        bool('The target is given by the options of its node: driver=raw,file.driver=nbd,...'),
        false,
      ),
    },
    'target-is-zero': {
      schema: optional(bool('The existing target reads as zeroes: leave out zeroes'), false),
    },
    'sparse-size': {
      schema: optional(
        size('Zeroes inside data become holes from this many bytes on; 0 writes every byte of the disk'),
        4096,
      ),
      value: 'bytes',
      short: 'S',
    },
    parallel: {
      schema: optional(integer('Pieces that are under way at a time', 1, 16), 8),
      value: 'number',
      short: 'm',
    },
    'out-of-order': {
      schema: optional(bool('Pieces need not arrive in order, which holds in any case'), false),
      short: 'W',
    },
    'rate-limit': {
      schema: optional(size('Bytes of the source to read in a second at most')),
      value: 'bytes',
      short: 'r',
    },
    salvage: {
      schema: optional(bool('What can not be read of the source becomes zeroes, and is told'), false),
    },
    cache: { schema: cacheSchema('How the target is cached'), value: 'mode', short: 't' },
    'source-cache': { schema: cacheSchema('How the source is cached'), value: 'mode', short: 'T' },
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
      createOptions: parseKeyValueLists(options['target-options']),
    });
    if (options.json) printJson(made);
    return 0;
  },
});

function cacheSchema(what: string) {
  const words = `${what}, as QEMU has it: none and directsync bypass the host cache`;
  return optional(choice(['writeback', 'none', 'writethrough', 'directsync', 'unsafe'], words), 'writeback');
}
