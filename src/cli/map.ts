import { bool, optional, text } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';
import { renderMapEntry, renderMapRow, MAP_HEADING } from './render-map.ts';
import type { OpenImage } from './with-image.ts';

export const mapCommand = defineCommand({
  name: 'map',
  summary: 'Show where the data of a disk lies',
  description: [
    'The JSON has the shape of "qemu-img map --output=json". Without it: only ranges that hold data.',
    'A picture shows the disk from its start to its end in rows of cells, coloured by what is there and by how deep in the backing ' +
      'chain, with partitions and the snapshots inside the image. It has the same size for a disk of any size: a cell then stands ' +
      'for more, and shows the shares of what is in it.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print JSON, every range'), false) },
    svg: { schema: optional(bool('Draw a picture'), false) },
    html: { schema: optional(bool('Draw a page with the picture and its numbers'), false) },
    output: {
      schema: optional(text('Write the picture or page to this file')),
      value: 'file',
      short: 'o',
    },
  },
  examples: [
    { command: 'blockfuse map --json disk.qcow2', text: 'Ranges with length, depth, data, zero and offset' },
    { command: 'blockfuse map --html -o disk.html disk.qcow2', text: 'A page to look at in a browser' },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const { json, svg, html, output } = options;
    if ([json, svg, html].filter(Boolean).length > 1)
      throw new UsageError('--json, --svg and --html exclude each other');
    if (output !== undefined && !svg && !html) throw new UsageError('--output needs --svg or --html');
    const { withImage } = await import('./with-image.ts');
    return withImage(image, options, async (open) => {
      if (svg || html) await draw(open, html, output);
      else await list(open, json);
      return 0;
    });
  },
});

async function list({ child }: OpenImage, json: boolean): Promise<void> {
  const { mapEntries } = await import('./map-entries.ts');
  if (!json) print(MAP_HEADING);
  let before = '[';
  for await (const entry of mapEntries(child)) {
    if (json) process.stdout.write(`${before}${renderMapEntry(entry)}`);
    else if (entry.data && !entry.zero) print(renderMapRow(entry));
    before = ',\n';
  }
  if (json) print(before === '[' ? '[]' : ']');
}

async function draw(open: OpenImage, html: boolean, output: string | undefined): Promise<void> {
  const { collectPicture } = await import('./map/collect.ts');
  const picture = await collectPicture(open);
  const drawn = html
    ? (await import('./map/html.ts')).renderMapHtml(picture)
    : (await import('./map/svg.ts')).renderMapSvg(picture);
  if (output === undefined) process.stdout.write(drawn);
  else await (await import('../sys/text-file.ts')).writeTextFile(output, drawn, filesBelow(open.node));
}

function filesBelow(node: OpenImage['node']): string[] {
  const below = [...node.children.values()].flatMap((child) => filesBelow(child.node));
  return node.impl.filename === undefined ? below : [node.impl.filename, ...below];
}
