import { parseMountOptions } from '../../mount/mount-options.ts';
import type { Option, Options, Repeated } from './command.ts';
import { UsageError } from './command.ts';

/** fuse's own words for options that are ours under another name. */
const SYNONYMS: Readonly<Record<string, string>> = { ro: 'read-only', allow_other: 'allow-other=on' };

export interface FuseStyleOptions {
  /** By the name of our long option. */
  readonly values: Readonly<Record<string, string | true | Repeated[]>>;
  /** What mount(8), fstab and FUSE itself have words for. */
  readonly words: readonly string[];
}

/** `a,b=c` as given to -o, any number of times. A word that nobody knows is a UsageError that names it. */
export function parseFuseStyle(options: Options, texts: readonly string[]): FuseStyleOptions {
  const values: Record<string, string | true | Repeated[]> = {};
  const words: string[] = [];
  for (const text of texts.flatMap((list) => list.split(',')).filter((word) => word !== '')) {
    const [key = '', ...rest] = (SYNONYMS[text] ?? text).split('=');
    const name = key.replaceAll('_', '-');
    const option = options[name];
    // The mount itself shows that it is read-only.
    if (text === 'ro') words.push(text);
    if (option === undefined) words.push(checked(text));
    else if (option.value !== undefined && rest.length === 0)
      throw new UsageError(`mount option "${key}" needs a value`);
    else values[name] = valueOf(option, rest, values[name]);
  }
  return { values, words };
}

function valueOf(
  { repeat = false }: Option,
  words: readonly string[],
  before: string | true | Repeated[] | undefined,
): string | true | Repeated[] {
  if (words.length === 0) return true;
  const text = words.join('=');
  const earlier = Array.isArray(before) ? before : [];
  return repeat ? [...earlier, { text, order: earlier.length }] : text;
}

function checked(word: string): string {
  try {
    parseMountOptions([word]);
  } catch {
    throw new UsageError(`unknown mount option "${word}"`);
  }
  return word;
}
