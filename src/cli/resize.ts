import * as v from 'valibot';
import { BlockError } from '../block/errors.ts';
import { bool, optional, size } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const resizeCommand = defineCommand({
  name: 'resize',
  summary: 'Change the size of a disk',
  description: [
    'New space reads as zeroes (a LUKS volume has to be filled with them, which takes its time). Making a disk smaller needs --shrink: what lies behind the new end is lost.',
  ],
  arguments: [IMAGE_ARGUMENT, { name: 'size', summary: 'New size, or +size and -size for a change' }],
  options: {
    ...IMAGE_OPTIONS,
    ...PROGRESS_OPTION,
    shrink: { schema: optional(bool('Allow the disk to get smaller'), false) },
  },
  examples: [{ command: 'blockfuse resize disk.qcow2 +10G', text: 'Ten GiB more' }],
  run: async ({ arguments: [image = '', wanted = ''], options }) => {
    const { openForCommand, withGraph } = await import('./with-graph.ts');
    const { watchProgress } = await import('./progress.ts');
    return withGraph(options, async (graph) => {
      const { child } = await openForCommand(graph, image, options, { writable: true });
      const target = newSize(wanted, child.size);
      if (target < child.size && !options.shrink) {
        const text = `it has ${child.size} bytes, ${target} would cut off data; say --shrink if that is meant`;
        throw new BlockError('EINVAL', `Cannot resize "${image}": ${text}`);
      }
      await watchProgress('resize', undefined, async () => {
        await child.resize(target, options.shrink);
        await child.flush();
      });
      print(`Image resized to ${child.size} bytes.`);
      return 0;
    });
  },
});

function newSize(text: string, current: number): number {
  const sign = /^[+-]/.exec(text)?.[0];
  const result = v.safeParse(size('size'), sign === undefined ? text : text.slice(1));
  const bytes = result.success ? result.output : -1;
  const target = sign === undefined ? bytes : sign === '+' ? current + bytes : current - bytes;
  if (bytes < 0 || target < 0)
    throw new UsageError(`the size is "${text}", must be bytes or a number with k, M, G or T`);
  return target;
}
