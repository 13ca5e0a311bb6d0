import { BlockError } from '../block/errors.ts';
import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { complain, print, printJson } from './output.ts';
import { renderInfo } from './render-info.ts';
import type { OpenImage } from './with-image.ts';

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
    const show = (isAlone: boolean): Promise<number> => {
      const look = async ({ node, child }: OpenImage): Promise<number> => {
        // Without the files below the content is not what it should be.
        const partitions = isAlone ? {} : await describePartitions(child);
        const chain = [{ ...(await describeNode(node)), ...partitions }];
        for (let below = node.cow; options['backing-chain'] && below !== undefined; below = below.node.cow) {
          chain.push(await describeNode(below.node));
        }
        if (options.json) printJson(options['backing-chain'] ? chain : chain[0]);
        else print(chain.map(renderInfo).join('\n\n'));
        return 0;
      };
      return withImage(image, options, look, isAlone ? { backing: null } : {});
    };
    return show(false).catch((error: unknown) => {
      if (options['backing-chain'] || !lacksBacking(error)) throw error;
      complain(`warning: ${error.message}`);
      return show(true);
    });
  },
});

/** What an image is can be told without its parent, what is on it can't. */
const lacksBacking = (error: unknown): error is BlockError =>
  error instanceof BlockError && error.code === 'ENOENT' && error.message.startsWith('Cannot open backing ');
