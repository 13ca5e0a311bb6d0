import { defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import type { ControlHost } from '../host.ts';
import { bitmapCommands } from './bitmaps.ts';
import { blockdevCommands } from './blockdev.ts';
import { descriptorCommands } from './descriptors.ts';
import { exportCommands } from './exports.ts';
import { jobCommands } from './jobs.ts';
import { objectCommands } from './objects.ts';
import { queryCommands } from './queries.ts';
import { snapshotCommands } from './snapshots.ts';
import { transactionCommand } from './transaction.ts';

/** Every command that QEMU has as well. */
export function allCommands(host: ControlHost): readonly ControlCommand[] {
  return [
    ...blockdevCommands(host),
    ...snapshotCommands(host),
    ...bitmapCommands(host),
    transactionCommand(host),
    ...exportCommands(host),
    ...queryCommands(host),
    ...objectCommands(host),
    ...jobCommands(host),
    ...descriptorCommands(host.descriptors),
    defineControlCommand({
      name: 'query-status',
      summary: 'Tells that the server runs',
      arguments: {},
      run: async () => ({ status: 'running', running: true, singlestep: false }),
    }),
    defineControlCommand({
      name: 'quit',
      summary: 'Ends the server, and with it every export',
      arguments: {},
      run: async () => {
        host.quit();
      },
    }),
  ];
}
