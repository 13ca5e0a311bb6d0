import type { Options } from './command.ts';
import { UsageError } from './command.ts';

/** What mount(8), fstab and systemd hand to every mount helper and is not for us. */
const FOREIGN =
  /^(rw|dev|nodev|suid|nosuid|exec|noexec|auto|noauto|user|users|nouser|owner|group|_netdev|nofail|defaults|relatime|noatime|x-.*|comment=.*)$/;

/** fuse's own names for options that are ours under another one. */
const SYNONYMS: Readonly<Record<string, string>> = {
  ro: 'read-only',
  allow_other: 'allow-other=on',
};

/** `a,b=c` as given to -o (several times): values by long option name. Unknown keys are a UsageError that names them. */
export function parseMountOptions(options: Options, texts: readonly string[]): Record<string, string | true> {
  const values: Record<string, string | true> = {};
  for (const text of texts.flatMap((list) => list.split(','))) {
    if (text === '' || FOREIGN.test(text)) continue;
    const [key = '', ...rest] = (SYNONYMS[text] ?? text).split('=');
    const name = key.replaceAll('_', '-');
    const option = options[name];
    if (option === undefined) throw new UsageError(`unknown mount option "${key}"`);
    if (option.value !== undefined && rest.length === 0)
      throw new UsageError(`mount option "${key}" needs a value`);
    values[name] = rest.length === 0 ? true : rest.join('=');
  }
  return values;
}
