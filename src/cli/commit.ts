import { bool, optional, text } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print, printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const commitCommand = defineCommand({
  name: 'commit',
  summary: 'Write what an overlay holds into its backing file',
  description: [
    'The backing file grows when the overlay is larger. Afterwards the overlay is empty, unless --keep is given or ' +
      '--base names a file further down: images between the two are then of no use any more.',
    'An overlay that remembers what its parent held (vmdk, vhdx) opens no more when the parent was written to: the parent ' +
      'then holds everything.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    base: {
      schema: optional(text('Image of the backing chain to write into; the backing file when left out')),
      value: 'file',
      short: 'b',
    },
    keep: { schema: optional(bool('Leave the overlay as it is'), false), short: 'd' },
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print what was written to as JSON'), false) },
  },
  examples: [{ command: 'blockfuse commit top.qcow2', text: 'Into its backing file' }],
  run: async ({ arguments: [image = ''], options }) => {
    const { commitImage } = await import('./commit-image.ts');
    const result = await commitImage(image, options);
    if (options.json) printJson(result);
    else print('Image committed.');
    return 0;
  },
});
