import { bool, optional, size, text } from '../block/schema.ts';
import { defineCommand, repeated, UsageError } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print, printJson } from './output.ts';

const ACTIONS = ['list', 'add', 'remove', 'clear', 'enable', 'disable', 'merge', 'show'] as const;
export type BitmapAction = (typeof ACTIONS)[number];

export const bitmapCommand = defineCommand({
  name: 'bitmap',
  summary: 'List, add, remove, change and show the dirty bitmaps inside an image',
  description: [
    'A dirty bitmap notes which parts of a disk were written since it was added or cleared: what an incremental backup has ' +
      'to copy. It is kept in the image (qcow2, version 3), and goes on when the image is opened again, by QEMU too.',
    'An image that is mounted is changed by the server of its mount, also while the disk is used. In the mount, bitmaps are ' +
      'files in the folder <node>.bitmaps.',
    'The JSON of "show", and of those files, lists all of the disk in order, as "blockfuse map" does: start and length in ' +
      'bytes, and dirty. In the files, neighbours are told as one dirty extent where there would be over 100000.',
    'What differs from a snapshot inside the image is found without reading the disk, from its tables: --since makes a bitmap ' +
      'of that, for an incremental backup that nobody prepared.',
    'A bitmap of an image that was not closed properly is inconsistent: it can only be removed.',
  ],
  arguments: [
    { name: 'action', summary: 'list, add, remove, clear, enable, disable, merge or show' },
    IMAGE_ARGUMENT,
    { name: 'name', summary: 'Name of the bitmap; of all actions but list', optional: true },
  ],
  options: {
    ...IMAGE_OPTIONS,
    granularity: {
      schema: optional(size('Bytes that one bit of a new bitmap stands for; 64k or the cluster size')),
      value: 'size',
      short: 'g',
    },
    since: {
      schema: optional(
        text('A new bitmap begins with what has changed since this snapshot inside the image was taken'),
      ),
      value: 'snapshot',
    },
    until: {
      schema: optional(
        text('Only what changed until this later snapshot was taken; the new bitmap notes nothing more'),
      ),
      value: 'snapshot',
    },
    disabled: { schema: optional(bool('The new bitmap notes nothing until it is enabled'), false) },
    from: {
      schema: repeated('Bitmap whose dirty parts are merged into the named one; may be given several times'),
      value: 'name',
      repeat: true,
    },
    json: { schema: optional(bool('Print JSON'), false) },
  },
  examples: [
    { command: 'blockfuse bitmap add disk.qcow2 monday', text: 'Note from now on what is written' },
    {
      command: 'blockfuse bitmap show --json disk.qcow2 monday',
      text: 'What was written since',
    },
    {
      command: 'blockfuse bitmap add disk.qcow2 week --since sunday --until friday',
      text: 'What differs between two snapshots, for who had no bitmap then',
    },
    {
      command: 'blockfuse bitmap merge disk.qcow2 week --from monday --from tuesday',
      text: 'What either of two has',
    },
  ],
  run: async ({ arguments: [wanted = '', image = '', name], options }) => {
    const action = ACTIONS.find((known) => known === wanted);
    if (action === undefined)
      throw new UsageError(`the action is "${wanted}", must be ${ACTIONS.join(', ')}`);
    const from = options.from.map(({ text }) => text);
    if ((action === 'merge') !== from.length > 0)
      throw new UsageError(
        action === 'merge' ? 'say which bitmaps to merge: --from NAME' : `--from is for "merge" only`,
      );
    const { since, until } = options;
    if (since !== undefined && action !== 'add') throw new UsageError('--since is for "add" only');
    if (until !== undefined && since === undefined) throw new UsageError('--until needs --since');
    const { bitmapsOfImage } = await import('./bitmap-image.ts');
    const bitmaps = bitmapsOfImage(image, options);
    if (action === 'list') {
      const found = await bitmaps.list();
      const { renderBitmaps } = await import('./render-bitmap.ts');
      if (options.json) printJson(found);
      else if (found.length > 0) print(renderBitmaps(found));
      return 0;
    }
    if (name === undefined || name === '') throw new UsageError(`say which bitmap to ${action}: its name`);
    if (action === 'show') {
      await bitmaps.show(name, await printerOf(options.json));
      return 0;
    }
    await bitmaps.change({
      action,
      name,
      from,
      granularity: options.granularity,
      disabled: options.disabled || until !== undefined,
      since,
      until,
    });
    if (options.json) printJson({ action, name });
    return 0;
  },
});

async function printerOf(json: boolean) {
  const { extentPrinter } = await import('./print-extents.ts');
  return extentPrinter(json);
}
