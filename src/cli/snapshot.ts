import { bool, optional } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print, printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';
import { renderSnapshots } from './render-info.ts';

const ACTIONS = ['list', 'create', 'apply', 'delete'] as const;
export type SnapshotAction = (typeof ACTIONS)[number];

export const snapshotCommand = defineCommand({
  name: 'snapshot',
  summary: 'List, create, apply and delete snapshots inside an image',
  description: [
    'An image that is mounted is changed by the server of its mount, also while the disk is used: requests wait until it ' +
      'is done. In the mount, snapshots are files in the folder <node>.snapshots.',
    'Applying makes the disk what it was when the snapshot was taken; what it is now is lost unless another snapshot has ' +
      'it. Whoever has the disk open meanwhile (a mounted file system!) sees it change.',
  ],
  arguments: [
    { name: 'action', summary: 'list, create, apply or delete' },
    IMAGE_ARGUMENT,
    {
      name: 'name',
      summary: 'Name of the snapshot, or its id; a new one is named for the time when left out',
      optional: true,
    },
  ],
  options: {
    ...IMAGE_OPTIONS,
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print JSON'), false) },
  },
  examples: [
    { command: 'blockfuse snapshot create disk.qcow2 before-upgrade', text: 'Keep what the disk is now' },
    { command: 'blockfuse snapshot apply disk.qcow2 before-upgrade', text: 'Go back to it' },
  ],
  run: async ({ arguments: [wanted = '', image = '', name], options }) => {
    const action = ACTIONS.find((known) => known === wanted);
    if (action === undefined)
      throw new UsageError(`the action is "${wanted}", must be ${ACTIONS.join(', ')}`);
    if (name === undefined && (action === 'apply' || action === 'delete'))
      throw new UsageError(`say which snapshot to ${action}: its name or id`);
    const { snapshotsOfImage } = await import('./snapshot-image.ts');
    const snapshots = snapshotsOfImage(image, options);
    if (action === 'list') {
      const found = await snapshots.list();
      if (options.json) printJson(found);
      else if (found.length > 0) print(renderSnapshots(found));
      return 0;
    }
    const done = name ?? nameNow();
    await snapshots[action](done);
    if (options.json) printJson({ action, name: done });
    else if (name === undefined) print(done);
    return 0;
  },
});

/** The time to the second, as ISO 8601 has it. */
function nameNow(): string {
  return new Date().toISOString().replace(/\.\d+/, '');
}
