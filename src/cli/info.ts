import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print, printJson } from './output.ts';
import { renderInfo } from './render-info.ts';

export const infoCommand = defineCommand({
  name: 'info',
  summary: 'Show what an image is',
  description: [
    'The JSON has the shape of "qemu-img info --output=json"; a disk with a partition table has "partition-table" as well.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    'backing-chain': { schema: optional(bool('Show the backing files as well'), false) },
    json: { schema: optional(bool('Print JSON'), false) },
  },
  examples: [
    { command: 'blockfuse info disk.qcow2', text: 'Format, sizes, backing file, snapshots, partitions' },
    { command: 'blockfuse info --json --backing-chain top.qcow2', text: 'The whole chain, for scripts' },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const { withImage } = await import('./with-image.ts');
    const { describeNode } = await import('../control/describe-node.ts');
    const { describePartitions } = await import('./describe-partitions.ts');
    return withImage(image, options, async ({ node, child }) => {
      const chain = [{ ...(await describeNode(node)), ...(await describePartitions(child)) }];
      for (let below = node.cow; options['backing-chain'] && below !== undefined; below = below.node.cow) {
        chain.push(await describeNode(below.node));
      }
      if (options.json) printJson(options['backing-chain'] ? chain : chain[0]);
      else print(chain.map(renderInfo).join('\n\n'));
      return 0;
    });
  },
});
