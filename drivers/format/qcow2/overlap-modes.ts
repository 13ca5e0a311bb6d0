import type { Qcow2Options } from './options.ts';

/** QEMU's names for what a write must not hit, in the order of its templates. */
const CONSTANT = ['main-header', 'refcount-table', 'snapshot-table', 'bitmap-directory'] as const;
const CACHED = [...CONSTANT, 'active-l1', 'active-l2', 'refcount-block', 'inactive-l1'] as const;
const ALL = [...CACHED, 'inactive-l2'] as const;

export type MetadataKind = (typeof ALL)[number];

const TEMPLATES: Readonly<Record<string, readonly MetadataKind[]>> = {
  none: [],
  constant: CONSTANT,
  cached: CACHED,
  all: ALL,
};

export const OVERLAP_DEFAULT: ReadonlySet<MetadataKind> = new Set(CACHED);

/** What is looked after: those of the template, but for what has a switch of its own. */
export function overlapKinds(options: Qcow2Options): ReadonlySet<MetadataKind> {
  const given = options['overlap-check'] ?? 'cached';
  const { template = 'cached', ...switches } = typeof given === 'string' ? { template: given } : given;
  const isIn = new Set<MetadataKind>(TEMPLATES[template]);
  const own: Partial<Record<MetadataKind, boolean | undefined>> = switches;
  return new Set(ALL.filter((kind) => own[kind] ?? isIn.has(kind)));
}

/** The kind of a table, from what it is called in messages. */
export function kindOfTable(what: string): MetadataKind {
  switch (what) {
    case 'the header':
    case 'the encryption header':
      return 'main-header';
    case 'the L1 table':
      return 'active-l1';
    case 'an L2 table':
      return 'active-l2';
    case 'the refcount table':
      return 'refcount-table';
    case 'a refcount block':
      return 'refcount-block';
    case 'the snapshot table':
      return 'snapshot-table';
    default:
      return what.startsWith('the L1 table of snapshot') ? 'inactive-l1' : 'bitmap-directory';
  }
}
