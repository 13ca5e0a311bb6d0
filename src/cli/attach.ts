import { bool, integer, optional, text } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print, printJson } from './output.ts';

export const attachCommand = defineCommand({
  name: 'attach',
  summary: 'Give the kernel a disk image as a block device',
  description: [
    'Mounts the image where only root looks, sets up a loop device over it with direct I/O, and prints the device. ' +
      'With --mount, its file system is mounted as well. "blockfuse detach" undoes all of it in order.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    partition: {
      schema: optional(integer('One partition instead of the whole disk', 1)),
      value: 'number',
      short: 'p',
    },
    mount: {
      schema: optional(text('Mount the file system of the device on this folder')),
      value: 'folder',
      short: 'm',
    },
    'read-only': { schema: optional(bool('Refuse writes'), false), short: 'r' },
    'sector-size': {
      schema: optional(integer('Bytes of a logical block of the device', 512, 4096), 512),
      value: 'bytes',
    },
    json: { schema: optional(bool('Print what was attached as JSON'), false) },
  },
  examples: [
    {
      command: 'blockfuse attach disk.qcow2',
      text: 'Prints /dev/loop0; its partitions are /dev/loop0p1 and on',
    },
    {
      command: 'blockfuse attach -p 1 -m /mnt disk.vmdk',
      text: 'The file system of the first partition at /mnt',
    },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const { attachImage } = await import('./attach-image.ts');
    const attachment = await attachImage(image, options);
    if (options.json) printJson(attachment);
    else print(attachment.device);
    return 0;
  },
});

export const detachCommand = defineCommand({
  name: 'detach',
  summary: 'Undo what attach did, and wait until the image is final',
  description: ['Unmounts the file system, frees the loop device, unmounts the image.'],
  arguments: [{ name: 'what', summary: 'The device, the image, or the folder of --mount' }],
  options: {},
  examples: [
    { command: 'blockfuse detach /dev/loop0', text: 'The image can be copied or booted right after' },
  ],
  run: async ({ arguments: [what = ''] }) => {
    const { detachImage } = await import('./attach-image.ts');
    await detachImage(what);
    return 0;
  },
});
