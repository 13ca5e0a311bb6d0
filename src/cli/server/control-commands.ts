import { bool, optional, text } from '../../block/schema.ts';
import { BlockError } from '../../block/errors.ts';
import { defineControlCommand } from '../../control/command.ts';
import type { ControlCommand } from '../../control/command.ts';
import { allCommands } from '../../control/commands/index.ts';
import { STATS } from './command-names.ts';
import { bitmapCommands } from './bitmap-commands.ts';
import { controlHost } from './control-host.ts';
import type { Server } from './server.ts';
import { snapshotCommands } from './snapshot-commands.ts';
import { reportStats } from './stats.ts';

/** Name of the command that ends a mount and answers when its image is final. */
export const UNMOUNT = 'x-blockfuse-unmount';

export interface UnmountAnswer {
  /** False: the mount is in use and was left as it is. */
  readonly ended: boolean;
  /** The server was there for this mount alone. */
  readonly serverEnds: boolean;
  /** What could not be written. */
  readonly failure?: string;
}

/** What a server answers on its control socket. */
export function controlCommands(server: Server): readonly ControlCommand[] {
  return [
    ...allCommands(controlHost(server)),
    ...snapshotCommands(server),
    ...bitmapCommands(server),
    defineControlCommand({
      name: 'x-blockfuse-info',
      summary: 'Tells what is mounted and what went through it',
      arguments: {},
      run: async () => server.describe(),
    }),
    defineControlCommand({
      name: STATS,
      summary: 'Tells how much went through each export and node, how fast, and how caches do',
      arguments: {},
      run: async () => reportStats(server),
    }),
    defineControlCommand({
      name: UNMOUNT,
      summary:
        'Unmounts, flushes and answers; a server that has nothing left to show ends then; in use: nothing of it',
      arguments: {
        lazy: optional(bool('Detach a mount that is in use'), false),
        mountpoint: optional(text('Which one; all of them when left out')),
      },
      run: async ({ lazy, mountpoint }) => unmount(server, lazy, mountpoint),
    }),
  ];
}

async function unmount(server: Server, lazy: boolean, mountpoint?: string): Promise<UnmountAnswer> {
  const { exports } = server;
  const disks = mountpoint === undefined ? exports.all : exports.at(mountpoint);
  const ends = server.endsWithout(disks.length);
  try {
    if (ends) await server.end(lazy);
    else await exports.removeAll(disks, lazy);
    return { ended: true, serverEnds: ends };
  } catch (error) {
    if (error instanceof BlockError && error.code === 'EBUSY') return { ended: false, serverEnds: false };
    return { ended: true, serverEnds: ends, failure: error instanceof Error ? error.message : String(error) };
  }
}
