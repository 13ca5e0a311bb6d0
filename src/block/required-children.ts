import type { ChildSpec, Driver } from './driver.ts';
import { isTree } from './options.ts';
import type { OptionsTree } from './options.ts';

/** The children that a driver can't do without, lists (`children.*`) by the numbers that are given. */
export function requiredChildren(driver: Driver, tree: OptionsTree): [string, ChildSpec][] {
  const required: [string, ChildSpec][] = [];
  for (const [name, spec] of Object.entries(driver.children)) {
    if (!spec.required) continue;
    if (!name.endsWith('.*')) required.push([name, spec]);
    else for (const item of listItems(tree, name.slice(0, -2))) required.push([item, spec]);
  }
  return required;
}

/** The names of a list's items, as dotted options have them; a JSON array becomes such options. At least one. */
function listItems(tree: OptionsTree, name: string): string[] {
  const given = tree[name];
  if (Array.isArray(given)) tree[name] = Object.fromEntries(given.entries());
  const list = tree[name];
  const count = isTree(list) ? Object.keys(list).length : 0;
  return Array.from({ length: Math.max(1, count) }, (_, index) => `${name}.${index}`);
}
