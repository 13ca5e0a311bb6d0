import type { Command } from './command.ts';
import { formatsCommand } from './formats.ts';
import { infoCommand } from './info.ts';
import { listCommand } from './list.ts';
import { mapCommand } from './map.ts';
import { mountCommand } from './mount.ts';
import { unmountCommand } from './unmount.ts';

/** Every command, in the order help shows them. */
export const COMMANDS: readonly Command[] = [
  mountCommand,
  unmountCommand,
  listCommand,
  infoCommand,
  mapCommand,
  formatsCommand,
];
