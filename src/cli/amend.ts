import { bool, optional } from '../block/schema.ts';
import { defineCommand, repeated, UsageError } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { parseKeyValueLists } from './key-values.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const amendCommand = defineCommand({
  name: 'amend',
  summary: 'Change what an image was created with',
  description: [
    'For qcow2: compat, lazy_refcounts, refcount_bits, size, backing_file, backing_fmt, data_file and data_file_raw=off. ' +
      'compat=0.10 is refused where the image has what version 2 lacks. What else "create" takes needs a convert.',
    'For the key slots of LUKS (with "encrypt." before each in qcow2): state=active adds the key new-secret, asked for ' +
      'when left out; state=inactive takes the keys of old-secret or keyslot away. keyslot names one of the eight, ' +
      'iter-time is the milliseconds that a try of the new key is to take.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    options: {
      schema: repeated('Options of the format: key=value,...; may be given several times'),
      value: 'list',
      short: 'o',
      repeat: true,
    },
    force: {
      schema: optional(bool('Also take the last key away, or replace one that is in use'), false),
    },
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print errors as JSON'), false) },
  },
  examples: [
    { command: 'blockfuse amend -o compat=1.1 disk.qcow2', text: 'From version 2 to version 3' },
    {
      command:
        'blockfuse amend --key-file old --object secret,id=new,file=new.key -o encrypt.state=active,encrypt.new-secret=new disk.qcow2',
      text: 'A further key',
    },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const wanted = parseKeyValueLists(options.options);
    if (Object.keys(wanted).length === 0) throw new UsageError('nothing to change is given with --options');
    const { amendImage } = await import('./amend-image.ts');
    await amendImage(image, options, wanted);
    return 0;
  },
});
