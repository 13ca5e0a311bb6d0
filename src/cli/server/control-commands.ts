import { bool, optional } from '../../block/schema.ts';
import { BlockError } from '../../block/errors.ts';
import { defineControlCommand } from '../../control/command.ts';
import type { ControlCommand } from '../../control/command.ts';
import type { MountServer } from './mount-server.ts';

/** Name of the command that ends a server and answers when its image is final. */
export const UNMOUNT = 'x-blockfuse-unmount';

export interface UnmountAnswer {
  /** False: the mount is in use and was left as it is. */
  readonly ended: boolean;
}

/** What a server answers on its control socket. */
export function controlCommands(server: MountServer): readonly ControlCommand[] {
  return [
    defineControlCommand({
      name: 'query-status',
      summary: 'Tells that the server runs',
      arguments: {},
      run: async () => ({ status: 'running', running: true, singlestep: false }),
    }),
    defineControlCommand({
      name: 'x-blockfuse-info',
      summary: 'Tells what is mounted and what went through it',
      arguments: {},
      run: async () => server.describe(),
    }),
    defineControlCommand({
      name: UNMOUNT,
      summary: 'Unmounts, flushes and closes the image, answers, and ends the server; in use: nothing of it',
      arguments: { lazy: optional(bool('Detach a mount that is in use'), false) },
      run: async ({ lazy }): Promise<UnmountAnswer> => ({ ended: await endUnlessBusy(server, lazy) }),
    }),
    defineControlCommand({
      name: 'quit',
      summary: 'Ends the server, and with it the mount',
      arguments: {},
      run: async () => {
        setImmediate(() => void server.end(true).catch(() => undefined));
        return {};
      },
    }),
  ];
}

async function endUnlessBusy(server: MountServer, lazy: boolean): Promise<boolean> {
  try {
    await server.end(lazy);
    return true;
  } catch (error) {
    if (error instanceof BlockError && error.code === 'EBUSY') return false;
    throw error;
  }
}
