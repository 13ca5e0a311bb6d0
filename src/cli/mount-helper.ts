/** The program under the name mount.fuse.blockfuse: mount(8) calls it for `mount -t fuse.blockfuse` and for lines of fstab. */
import path from 'node:path';

const HELPER_NAME = /^mount\.(fuse\.)?blockfuse$/;
/** Without a value: sloppy, no mtab, verbose. */
const IGNORED = new Set(['-s', '-n', '-v']);
/** With one: name space, type of the file system. */
const IGNORED_WITH_VALUE = new Set(['-N', '-t']);

export const isMountHelper = (invokedAs: string): boolean => HELPER_NAME.test(path.basename(invokedAs));

/**
 * What to run for `SOURCE DIR [-sfnv] [-N namespace] [-t type] [-o options]`; undefined when only to be played through (-f).
 */
export function helperCommand(argv: readonly string[]): string[] | undefined {
  const rest: string[] = [];
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? '';
    if (word === '-f') return undefined;
    if (IGNORED_WITH_VALUE.has(word)) at += 1;
    else if (!IGNORED.has(word)) rest.push(...(/^-[snv]{2,}$/.test(word) ? [] : [word]));
  }
  return ['mount', '--quiet', ...rest];
}
