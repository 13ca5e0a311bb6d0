import { BlockError } from '../src/block/errors.ts';

/** What `-o` says, for mount(2) and for fusermount3. */
export interface MountOptions {
  /** MS_* bits. */
  readonly flags: number;
  /** The same as words, for fusermount3. */
  readonly flagNames: readonly string[];
  /** Options of the file system itself: `max_read=131072`. */
  readonly data: readonly string[];
  readonly allowOther: boolean;
  readonly fsname: string | undefined;
  readonly subtype: string | undefined;
}

interface Flag {
  readonly bit: number;
  readonly on: boolean;
}

const FLAGS: ReadonlyMap<string, Flag> = new Map([
  ...pair('ro', 'rw', 1),
  ...pair('nosuid', 'suid', 2),
  ...pair('nodev', 'dev', 4),
  ...pair('noexec', 'exec', 8),
  ...pair('sync', 'async', 16),
  ...pair('dirsync', 'nodirsync', 128),
  ...pair('noatime', 'atime', 1024),
]);
const DEFAULT_FLAGS = ['nosuid', 'nodev'];

/** Words of fstab and mount(8) that are meant for others, or that say nothing about a disk. */
const IGNORED = new RegExp(
  `^(${[
    'x-.*|X-.*|comment=.*|_netdev|nofail|auto|noauto|defaults|default_permissions',
    'users?|nousers?|user=.*|owner|noowner|group|nogroup|uhelper=.*|helper=.*',
    'relatime|norelatime|strictatime|nostrictatime|lazytime|nolazytime|diratime|nodiratime|silent|loud|nofollow',
  ].join('|')})$`,
);
const PASSED = /^max_read=\d+$/;

function pair(on: string, off: string, bit: number): [string, Flag][] {
  return [
    [on, { bit, on: true }],
    [off, { bit, on: false }],
  ];
}

/** Reads the words of `-o`, in their order: later ones win. An unknown one is an error that names it. */
export function parseMountOptions(words: readonly string[]): MountOptions {
  const flags = new Set(DEFAULT_FLAGS);
  const data: string[] = [];
  const values = new Map<string, string>();
  for (const word of words) {
    const [key, value] = split(word);
    const flag = FLAGS.get(word);
    if (flag !== undefined) setFlag(flags, word, flag);
    else if (word === 'allow_other' || ((key === 'fsname' || key === 'subtype') && value !== undefined))
      values.set(key, value ?? '');
    else if (PASSED.test(word)) data.push(word);
    else if (!IGNORED.test(word)) throw unknown(word);
  }
  return {
    flags: [...flags].reduce((sum, name) => sum + (FLAGS.get(name)?.bit ?? 0), 0),
    flagNames: [...flags],
    data,
    allowOther: values.has('allow_other'),
    fsname: values.get('fsname'),
    subtype: values.get('subtype'),
  };
}

/** Two words with one bit exclude each other; only the one that sets it is kept. */
function setFlag(flags: Set<string>, word: string, flag: Flag): void {
  for (const name of flags) if (FLAGS.get(name)?.bit === flag.bit) flags.delete(name);
  if (flag.on) flags.add(word);
}

function split(word: string): [string, string | undefined] {
  const at = word.indexOf('=');
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

const unknown = (word: string): BlockError =>
  new BlockError('EINVAL', `Cannot use mount option "${word}": it is unknown, wanted is one of ${KNOWN}`);

const KNOWN = [...FLAGS.keys(), 'allow_other', 'fsname=', 'subtype=', 'max_read='].join(', ');
