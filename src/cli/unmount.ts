import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';

export const unmountCommand = defineCommand({
  name: 'unmount',
  summary: 'End a mount and wait until its image is final',
  description: ['When it returns, everything is written, the image is closed and the server is gone.'],
  arguments: [{ name: 'mountpoint', summary: 'Where the disk is mounted' }],
  options: {
    lazy: {
      schema: optional(
        bool('Detach a mount that is in use; who has it open gets errors from then on'),
        false,
      ),
      short: 'l',
    },
    json: { schema: optional(bool('Print errors as JSON'), false) },
  },
  examples: [
    { command: 'blockfuse unmount /mnt/disk', text: 'The image can be copied or booted right after' },
  ],
  run: async ({ arguments: [mountpoint = ''], options }) => {
    const { unmount } = await import('./server/unmount.ts');
    await unmount(mountpoint, options.lazy);
    return 0;
  },
});
