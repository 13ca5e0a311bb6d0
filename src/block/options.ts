/** Options trees: `{driver, 'node-name', ..., file: {driver, filename}}`, from dotted text or JSON. */
import * as v from 'valibot';
import { BlockError } from './errors.ts';
import { Role } from './permissions.ts';
import type { Roles } from './permissions.ts';
import { COMMON_OPTIONS } from './schema.ts';
import type { CommonOptions, OptionEntries } from './schema.ts';

export type OptionsTree = Record<string, unknown>;

export function isTree(value: unknown): value is OptionsTree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Names that reach the prototype of an object instead of a property. */
const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * `{'file.filename': 'x'}` -> `{file: {filename: 'x'}}`. Naming something both as a value (a reference to a node) and as a
 * tree is an error.
 */
export function expandDotted(flat: OptionsTree): OptionsTree {
  const tree: OptionsTree = {};
  for (const [key, value] of Object.entries(flat)) {
    const path = key.split('.');
    if (path.some((part) => FORBIDDEN.has(part)))
      throw new BlockError('EINVAL', `Cannot use option "${key}": there is none of that name`);
    const last = path.pop() ?? key;
    let at = tree;
    for (const part of path) {
      const next = Object.hasOwn(at, part) ? at[part] : {};
      if (!isTree(next)) {
        const is = typeof next === 'string' ? `names node or value "${next}"` : 'is a value';
        throw new BlockError('EINVAL', `Cannot use option "${key}": "${part}" ${is} already`);
      }
      at[part] = next;
      at = next;
    }
    if (Object.hasOwn(at, last)) {
      const given = at[last];
      if (!isTree(given) || !isTree(value))
        throw new BlockError('EINVAL', `Cannot use option "${key}": it is given twice`);
      Object.assign(given, expandDotted(value));
    } else {
      at[last] = isTree(value) ? expandDotted(value) : value;
    }
  }
  return tree;
}

/** Takes the value at a dotted name out of a tree; undefined when it is not there. */
export function takeOption(tree: OptionsTree, name: string): unknown {
  if (Object.hasOwn(tree, name)) {
    const value = tree[name];
    delete tree[name];
    return value;
  }
  const dot = name.indexOf('.');
  if (dot < 0) return undefined;
  const head = name.slice(0, dot);
  const below = tree[head];
  if (!isTree(below)) return undefined;
  const value = takeOption(below, name.slice(dot + 1));
  if (Object.keys(below).length === 0) delete tree[head];
  return value;
}

/** Takes the options that `entries` declares out of `tree` and validates them; errors name driver and option. */
export function takeDeclared(
  tree: OptionsTree,
  entries: OptionEntries,
  who: string,
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(entries)) {
    const given = takeOption(tree, name);
    const result = v.safeParse(schema, given);
    if (!result.success) {
      const why =
        given === undefined ? 'is missing' : `is ${JSON.stringify(given)}, ${result.issues[0].message}`;
      throw new BlockError('EINVAL', `Cannot open ${who}: option "${name}" ${why}`);
    }
    values[name] = result.output;
  }
  return values;
}

/** The same for a tree that holds nothing else: what is left over is an error. */
export function takeAll(tree: OptionsTree, entries: OptionEntries, who: string): Record<string, unknown> {
  const values = takeDeclared(tree, entries, who);
  const unknown = firstName(tree);
  if (unknown === undefined) return values;
  const [branch = unknown] = unknown.split('.');
  const names = Object.keys(entries);
  const near = names.filter((name) => name.startsWith(`${branch}.`));
  const known = (near.length > 0 ? near : names).join(', ');
  throw new BlockError('EINVAL', `Cannot open ${who}: there is no option "${unknown}", only ${known}`);
}

/** The dotted name of the first value in a tree. */
export function firstName(tree: OptionsTree): string | undefined {
  const [first] = Object.entries(tree);
  if (first === undefined) return undefined;
  const [name, value] = first;
  const below = isTree(value) ? firstName(value) : undefined;
  return below === undefined ? name : `${name}.${below}`;
}

type CommonGiven = Readonly<Record<string, unknown>>;

/** Takes the common options out of `tree`, as given. */
export function takeCommon(tree: OptionsTree, who: string): CommonGiven {
  const { driver: _driver, ...entries } = COMMON_OPTIONS;
  return takeDeclared(tree, entries, who);
}

/**
 * What holds for a node: what it was given, else what its parent hands down for this role, else the default. Whether discards
 * reach the storage is decided at the top: below, they are passed on. Backing files are read-only unless said otherwise.
 */
export function resolveCommon(
  given: CommonGiven,
  parent: CommonOptions | undefined,
  roles: Roles,
): CommonOptions {
  const flag = (name: string, fallback: boolean): boolean => {
    const value = given[name];
    return typeof value === 'boolean' ? value : fallback;
  };
  const isCow = (roles & Role.cow) !== 0;
  const discard = given['discard'] ?? (parent === undefined ? 'ignore' : 'unmap');
  const detectZeroes = given['detect-zeroes'];
  return {
    readOnly: flag('read-only', isCow || (parent?.readOnly ?? false)),
    autoReadOnly: flag('auto-read-only', !isCow && (parent?.autoReadOnly ?? false)),
    forceShare: flag('force-share', parent?.forceShare ?? false),
    discard: discard === 'unmap' || discard === 'on' ? 'unmap' : 'ignore',
    detectZeroes: detectZeroes === 'on' || detectZeroes === 'unmap' ? detectZeroes : 'off',
    cacheDirect: flag('cache.direct', parent?.cacheDirect ?? false),
    cacheNoFlush: flag('cache.no-flush', parent?.cacheNoFlush ?? false),
  };
}

/** The value of a dotted name, left where it is. */
export function peekOption(tree: OptionsTree, name: string): unknown {
  return name.split('.').reduce<unknown>((at, part) => (isTree(at) ? at[part] : undefined), tree);
}
