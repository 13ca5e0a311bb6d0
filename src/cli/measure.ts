import { bool, optional, size, text } from '../block/schema.ts';
import { defineCommand, repeated, UsageError } from './command.ts';
import { IMAGE_OPTIONS } from './image-arguments.ts';
import { parseKeyValueLists } from './key-values.ts';
import { print, printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const measureCommand = defineCommand({
  name: 'measure',
  summary: 'Tell how large the file of an image would get',
  description: [
    'For the content of an image, or for an empty disk of --size. "required" is what convert would write, ' +
      '"fully allocated" what it can grow to. Known for raw, qcow2 and luks.',
  ],
  arguments: [{ name: 'image', summary: 'Image that would be converted', optional: true }],
  options: {
    ...IMAGE_OPTIONS,
    'target-format': { schema: optional(text('Format to measure for'), 'raw'), value: 'name', short: 'O' },
    'target-options': {
      schema: repeated('Options of that format: key=value,...; may be given several times'),
      value: 'list',
      short: 'o',
      repeat: true,
    },
    size: { schema: optional(size('Size of an empty disk, instead of an image')), value: 'bytes' },
    snapshot: { schema: optional(text('Internal snapshot to measure')), value: 'name', short: 'l' },
    ...PROGRESS_OPTION,
    json: {
      schema: optional(bool('Print JSON, in the shape of "qemu-img measure --output=json"'), false),
    },
  },
  examples: [{ command: 'blockfuse measure -O qcow2 disk.vmdk', text: 'Before a conversion' }],
  run: async ({ arguments: [image], options }) => {
    if ((image === undefined) === (options.size === undefined))
      throw new UsageError('either an image or --size must be given');
    const { measureImage } = await import('./measure-image.ts');
    const createOptions = parseKeyValueLists(options['target-options']);
    const result = await measureImage(image, { ...options, createOptions });
    const { required, fullyAllocated, bitmaps } = result;
    const more = bitmaps === undefined ? {} : { bitmaps };
    if (options.json) printJson({ required, 'fully-allocated': fullyAllocated, ...more });
    else
      print(
        `required size: ${required}\nfully allocated size: ${fullyAllocated}` +
          (bitmaps === undefined ? '' : `\nbitmaps size: ${bitmaps}`),
      );
    return 0;
  },
});
