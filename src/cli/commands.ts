import { amendCommand } from './amend.ts';
import { attachCommand, detachCommand } from './attach.ts';
import { bitmapCommand } from './bitmap.ts';
import { checkCommand } from './check.ts';
import type { Command } from './command.ts';
import { commitCommand } from './commit.ts';
import { compareCommand } from './compare.ts';
import { convertCommand } from './convert.ts';
import { createCommand } from './create.ts';
import { formatsCommand } from './formats.ts';
import { graphCommand } from './graph.ts';
import { infoCommand } from './info.ts';
import { listCommand } from './list.ts';
import { mapCommand } from './map.ts';
import { measureCommand } from './measure.ts';
import { mountCommand } from './mount.ts';
import { rebaseCommand } from './rebase.ts';
import { resizeCommand } from './resize.ts';
import { serveCommand } from './serve.ts';
import { snapshotCommand } from './snapshot.ts';
import { statsCommand } from './stats.ts';
import { topCommand } from './top.ts';
import { unmountCommand } from './unmount.ts';

/** Every command, in the order help shows them. */
export const COMMANDS: readonly Command[] = [
  mountCommand,
  unmountCommand,
  attachCommand,
  detachCommand,
  listCommand,
  serveCommand,
  graphCommand,
  statsCommand,
  topCommand,
  infoCommand,
  mapCommand,
  createCommand,
  checkCommand,
  convertCommand,
  compareCommand,
  commitCommand,
  rebaseCommand,
  resizeCommand,
  measureCommand,
  amendCommand,
  snapshotCommand,
  bitmapCommand,
  formatsCommand,
];
