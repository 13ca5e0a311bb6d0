import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print } from './output.ts';
import { renderMapEntry, renderMapRow, MAP_HEADING } from './render-map.ts';

export const mapCommand = defineCommand({
  name: 'map',
  summary: 'Show where the data of a disk lies',
  description: [
    'The JSON has the shape of "qemu-img map --output=json". Without it: only ranges that hold data.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    json: { schema: optional(bool('Print JSON, every range'), false) },
  },
  examples: [
    { command: 'blockfuse map --json disk.qcow2', text: 'Ranges with length, depth, data, zero and offset' },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const { withImage } = await import('./with-image.ts');
    const { mapEntries } = await import('./map-entries.ts');
    return withImage(image, options, async ({ child }) => {
      if (!options.json) print(MAP_HEADING);
      let before = '[';
      for await (const entry of mapEntries(child)) {
        if (options.json) process.stdout.write(`${before}${renderMapEntry(entry)}`);
        else if (entry.data && !entry.zero) print(renderMapRow(entry));
        before = ',\n';
      }
      if (options.json) print(before === '[' ? '[]' : ']');
      return 0;
    });
  },
});
