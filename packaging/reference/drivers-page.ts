/** blockfuse-drivers(7): every driver and its options, from their schemas. */
import { DRIVERS } from '../../drivers/index.ts';
import type { Driver } from '../../src/block/driver.ts';
import { COMMON_OPTIONS } from '../../src/block/schema.ts';
import type { OptionEntries } from '../../src/block/schema.ts';
import { describeSchema } from '../../src/cli/describe-schema.ts';
import { bold, entry, escape, italic, paragraph, section, seeAlso, subsection } from './roff.ts';
import type { PageHead } from './roff.ts';
import { defaultOf, isRequired, valueType } from './values.ts';

export const DRIVERS_HEAD: PageHead = {
  name: 'blockfuse-drivers',
  section: 7,
  summary: 'formats, protocols and filters of blockfuse, and their options',
};

const KINDS = { format: 'FORMATS', protocol: 'PROTOCOLS', filter: 'FILTERS' } as const;

export function driversPage(): string[] {
  return [
    ...section('DESCRIPTION', introduction()),
    ...section('COMMON OPTIONS', options(COMMON_OPTIONS)),
    ...(['format', 'protocol', 'filter'] as const).flatMap((kind) =>
      section(KINDS[kind], DRIVERS.filter((driver) => driver.kind === kind).flatMap(describe)),
    ),
    ...seeAlso(['blockfuse(1)', 'blockfuse-mount(1)', 'blockfuse-create(1)', 'blockfuse-formats(1)']),
  ];
}

function introduction(): string[] {
  return [
    ...paragraph(
      escape(
        'An image is opened as a node by a driver. Options are given as key=value,... (mount -O, create -O), with dots for ' +
          'the options of a child (file.locking=off), or as an object: json:{"driver": "qcow2", "file": {...}}.',
      ),
    ),
    ...paragraph(
      escape(
        'A size is a number of bytes, or one with a suffix of 1024: k, M, G, T. Each driver takes the common options too.',
      ),
    ),
  ];
}

function describe(driver: Driver): string[] {
  const { createOptions = {} } = driver;
  const written = driver.onlyRead === true ? [] : ['written'];
  const created = driver.create === undefined ? [] : ['created'];
  const can = ['read', ...written, ...created, ...(driver.check === undefined ? [] : ['checked'])];
  const abilities = driver.kind === 'format' ? ` Images can be ${join(can)}.` : '';
  const children = Object.keys(driver.children);
  const below = children.length === 0 ? '' : ` Children: ${children.join(', ')}.`;
  return subsection(driver.name, [
    ...paragraph(escape(`${driver.summary}.${abilities}${below}`)),
    ...shapes(driver),
    ...options(driver.options),
    ...(Object.keys(createOptions).length === 0 ? [] : paragraph(escape('When an image is created:'))),
    ...options(createOptions),
  ]);
}

/** What not every shape of the format can. */
function shapes({ subformats = [] }: Driver): string[] {
  const without = (can: 'write' | 'create'): string =>
    subformats
      .filter((shape) => !shape[can])
      .map(({ name }) => name)
      .join(', ');
  const [unwritten, uncreated] = [without('write'), without('create')];
  const parts = [
    ...(unwritten === '' ? [] : [`Only read: ${unwritten}.`]),
    ...(uncreated === '' ? [] : [`Not created: ${uncreated}.`]),
  ];
  return parts.length === 0 ? [] : paragraph(escape(parts.join(' ')));
}

function options(entries: OptionEntries): string[] {
  return Object.entries(entries).flatMap(([name, schema]) => {
    const fallback = defaultOf(schema);
    const extra = isRequired(schema) ? ' Required.' : fallback === undefined ? '' : ` Default: ${fallback}.`;
    return entry(`${bold(name)}=${italic(valueType(schema))}`, escape(`${describeSchema(schema)}.${extra}`));
  });
}

const join = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1) ?? ''}`;
