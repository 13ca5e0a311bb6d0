import { bool, optional, text } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const rebaseCommand = defineCommand({
  name: 'rebase',
  summary: 'Give an overlay another backing file',
  description: [
    'What the disk reads as stays the same: where the two backing files differ, the overlay gets the data. With ' +
      '--unsafe only the name in the image is changed, for a backing file that was moved or replaced.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    backing: {
      schema: optional(text('The new backing file, as the image is to name it; an empty name for none')),
      value: 'file',
      short: 'b',
    },
    'backing-format': { schema: optional(text('Format of that file')), value: 'name', short: 'F' },
    unsafe: { schema: optional(bool('Only change the name'), false), short: 'u' },
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print errors as JSON'), false) },
  },
  examples: [
    { command: 'blockfuse rebase -b other.qcow2 -F qcow2 top.qcow2', text: 'Another backing file' },
    { command: "blockfuse rebase -b '' top.qcow2", text: 'None: the image holds the whole disk' },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const { backing } = options;
    if (backing === undefined)
      throw new UsageError('the new backing file is missing, give it with --backing');
    const { rebaseImage } = await import('./rebase-image.ts');
    await rebaseImage(image, { ...options, backing });
    return 0;
  },
});
