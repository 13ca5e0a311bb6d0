import type { EdgeDescription, NodeDescription, RootDescription } from '../../control/describe-graph.ts';
import { formatSize } from '../../util/sizes.ts';

/** `64 MiB, 12 % stored, read-only`; '' when nothing is known. */
export function nodeFacts(node: NodeDescription): string {
  const { size, 'read-only': readOnly } = node;
  const share = fillLevel(node);
  return [
    ...(size === undefined ? [] : [formatSize(size)]),
    ...(share === undefined ? [] : [`${Math.round(share * 100)} % stored`]),
    ...(readOnly === true ? ['read-only'] : []),
  ].join(', ');
}

/** How much of its size a node's data takes, 0 to 1; undefined where that can't be told. */
export function fillLevel({ size, allocated }: NodeDescription): number | undefined {
  if (size === undefined || allocated === undefined || size === 0) return undefined;
  return Math.min(1, allocated / size);
}

export function rootFacts({ file, writable }: RootDescription): string {
  const mode = writable === undefined ? [] : [writable ? 'writable' : 'read-only'];
  return [...(file === undefined || file === '' ? [] : [file]), ...mode].join(', ');
}

const LETTERS: Readonly<Record<string, string>> = {
  'consistent-read': 'r',
  write: 'w',
  'write-unchanged': 'u',
  resize: 's',
};
export const LEGEND = 'r read, w write, u write unchanged, s resize; - none';

/** `file rws` and the roles below it; of a root, what it uses alone. */
export function edgeLines(edge: EdgeDescription, isRoot: boolean): string[] {
  const letters = usedLetters(edge);
  if (isRoot) return letters === '' ? [] : [letters];
  return [[edge.name, letters].filter(Boolean).join(' '), roleText(edge)].filter((line) => line !== '');
}

export function roleText({ roles = [] }: EdgeDescription): string {
  return roles.join(' + ');
}

/** `rws`: what an edge uses; '' when that is not known. */
export function usedLetters({ uses }: EdgeDescription): string {
  return uses === undefined ? '' : uses.map((name) => LETTERS[name] ?? '?').join('') || '-';
}

export function sharedLetters({ shares }: EdgeDescription): string {
  return shares === undefined ? '' : shares.map((name) => LETTERS[name] ?? '?').join('') || '-';
}
