import { bool, choice, either, integer, optional, size, text } from '../../../src/block/schema.ts';
import type { OptionEntries, OptionsOf } from '../../../src/block/schema.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Header } from './header.ts';

const OVERLAP_TEMPLATES = ['none', 'constant', 'cached', 'all'] as const;

const guards = (what: string) => optional(bool(`Writes do not hit ${what}`));

const OVERLAP_SWITCHES = {
  template: optional(choice(OVERLAP_TEMPLATES, 'What holds for tables without a switch; cached')),
  'main-header': guards('the header'),
  'active-l1': guards('the active L1 table'),
  'active-l2': guards('an active L2 table'),
  'refcount-table': guards('the refcount table'),
  'refcount-block': guards('a refcount block'),
  'snapshot-table': guards('the snapshot table'),
  'inactive-l1': guards('the L1 table of a snapshot'),
  'inactive-l2': guards('an L2 table of a snapshot'),
  'bitmap-directory': guards('the tables of persistent bitmaps'),
};

/** QEMU's names. */
export const QCOW2_OPTIONS = {
  'lazy-refcounts': optional(bool('Postpone refcount updates, marking the image dirty meanwhile')),
  'pass-discard-request': optional(bool('Discards of the guest release space of the host file')),
  'pass-discard-snapshot': optional(bool('Deleting a snapshot releases space of the host file'), true),
  'pass-discard-other': optional(bool('Other freed clusters release space of the host file'), false),
  'discard-no-unref': optional(
    bool('Discarded clusters keep their places and read as zeroes: the file does not fragment; version 3'),
    false,
  ),
  'overlap-check': optional(
    either(
      choice(OVERLAP_TEMPLATES, 'Which tables are looked after'),
      OVERLAP_SWITCHES,
      'Which tables are checked not to be where something is written: none, constant, cached (the default) or all, or each by itself',
    ),
  ),
  'cache-size': optional(size('Memory for L2 tables and refcount blocks together')),
  'l2-cache-size': optional(size('Memory for L2 tables; 32 MiB or what the disk needs')),
  'l2-cache-entry-size': optional(size('Bytes of an L2 table that are loaded at a time'), 4096),
  'refcount-cache-size': optional(size('Memory for refcount blocks')),
  'cache-clean-interval': optional(
    integer('Seconds after which unused tables are dropped; 0 keeps them'),
    600,
  ),
  'encrypt.format': optional(choice(['aes', 'luks'], 'Encryption that the image has to have')),
  'encrypt.key-secret': optional(
    text('Id of the secret that holds the passphrase; the key given when left out'),
  ),
  snapshot: optional(
    text('Internal snapshot, by id or name, that is shown instead of the disk as it is; it can only be read'),
  ),
  'x-repair': optional(bool('Open for a repair: the dirty and corrupt bits do not stand in the way'), false),
} as const satisfies OptionEntries;

export type Qcow2Options = OptionsOf<typeof QCOW2_OPTIONS>;

const L2_CACHE_DEFAULT = 32 * 1024 * 1024;
const REFCOUNT_CACHE_DEFAULT = 4 * 1024 * 1024;
/** So that all the requests in flight have room for what each needs. */
const TABLES_MIN = 64;

export interface CacheSizes {
  /** L2 slices. */
  readonly slices: number;
  /** Refcount pages. */
  readonly pages: number;
}

/** Checks l2-cache-entry-size; the L2 slice's bytes before they are capped to the cluster. */
export function sliceSizeOption(options: Qcow2Options, subject: string): number {
  const wanted = options['l2-cache-entry-size'];
  if (isPowerOfTwo(wanted) && wanted >= 512 && wanted <= 2 * 1024 * 1024) return wanted;
  const what = `l2-cache-entry-size is ${wanted}, must be a power of two from 512 to 2097152`;
  throw new BlockError('EINVAL', `Cannot open image "${subject}": ${what}`);
}

/** How many tables the options allow, given what the disk can need at all. */
export function cacheSizes(
  options: Qcow2Options,
  header: Header,
  sizes: { slice: number; page: number; entry: number },
): CacheSizes {
  const tablesBytes = alignUp(Math.ceil(header.size / 2 ** header.cluster_bits) * sizes.entry, sizes.slice);
  const total = options['cache-size'];
  const refcounts =
    options['refcount-cache-size'] ?? Math.min(REFCOUNT_CACHE_DEFAULT, (total ?? Infinity) / 4);
  const l2 =
    options['l2-cache-size'] ?? (total === undefined ? L2_CACHE_DEFAULT : Math.max(0, total - refcounts));
  return {
    slices: Math.max(TABLES_MIN, Math.ceil(Math.min(l2, tablesBytes) / sizes.slice)),
    pages: Math.max(TABLES_MIN, Math.ceil(refcounts / sizes.page)),
  };
}
