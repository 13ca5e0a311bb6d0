import type { L1Location } from './count-l1.ts';

const endOf = ({ offset, entries }: L1Location): number => offset + entries * 8;

/**
 * The same entries, each once, however many of the tables lie over one another there: hundreds of huge tables in one place are
 * read in no more time than one.
 *
 *   table a   |-------|              a, once | b, twice | b, once
 *   table b        |------|
 */
export function apart(tables: readonly L1Location[]): L1Location[] {
  const starts = [...tables].sort((one, other) => one.offset - other.offset);
  const ends = tables.map(endOf).sort((one, other) => one - other);
  const pieces: L1Location[] = [];
  let started = 0;
  let ended = 0;
  let at = 0;
  /** Of those that have started the one that ends last: it has the entries, if any of them has. */
  let longest: L1Location | undefined;
  while (ended < ends.length) {
    const times = started - ended;
    const next = Math.min(starts[started]?.offset ?? Infinity, ends[ended] ?? Infinity);
    if (longest !== undefined && times > 0 && next > at) {
      const { offset } = longest;
      pieces.push({ ...longest, from: (at - offset) / 8, entries: (next - offset) / 8, times });
    }
    at = next;
    for (let table = starts[started]; table?.offset === at; table = starts[started]) {
      if (longest === undefined || endOf(table) > endOf(longest)) longest = table;
      started += 1;
    }
    while (ends[ended] === at) ended += 1;
  }
  return pieces;
}
