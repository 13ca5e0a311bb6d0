/** Manual pages and completions, where a package puts them below `share/`. */
import { COMMANDS } from '../../src/cli/commands.ts';
import { VERSION } from '../../src/cli/version.ts';
import { bashCompletion } from './bash.ts';
import { commandHead, commandPage } from './command-page.ts';
import { DRIVERS_HEAD, driversPage } from './drivers-page.ts';
import { fishCompletion } from './fish.ts';
import { MOUNT_HEAD, mountPage } from './mount-page.ts';
import { PROGRAM_HEAD, programPage } from './program-page.ts';
import { renderPage } from './roff.ts';
import type { PageHead } from './roff.ts';
import { zshCompletion } from './zsh.ts';

export interface ReferenceFile {
  readonly path: string;
  readonly text: string;
}

/** `date` is year, month, day: it stands in the foot of every page. */
export function referenceFiles(date: string): ReferenceFile[] {
  const page = (head: PageHead, lines: readonly string[]): ReferenceFile => ({
    path: `man/man${head.section}/${head.name}.${head.section}`,
    text: renderPage(head, lines, { version: VERSION, date }),
  });
  return [
    page(PROGRAM_HEAD, programPage()),
    ...COMMANDS.map((command) => page(commandHead(command), commandPage(command))),
    page(DRIVERS_HEAD, driversPage()),
    page(MOUNT_HEAD, mountPage()),
    { path: 'bash-completion/completions/blockfuse', text: bashCompletion() },
    { path: 'zsh/vendor-completions/_blockfuse', text: zshCompletion() },
    { path: 'fish/vendor_completions.d/blockfuse.fish', text: fishCompletion() },
  ];
}
