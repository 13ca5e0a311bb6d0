import type { Child } from './child.ts';
import { BlockError } from './errors.ts';
import { Role, roleNames } from './permissions.ts';
import type { Roles } from './permissions.ts';

const SINGLE = [Role.primary, Role.filtered, Role.cow] as const;
const NOT_FILTERED = Role.data | Role.metadata | Role.cow;

/**
 * What the roles of one node's children must obey: at most one is primary, one filtered, one cow; a node passes requests
 * to a filtered child or has a backing one, not both; a filtered child is neither data, metadata nor cow.
 * Asked wherever a node gets an edge, before it gets it.
 */
export function refuseRoles(
  parent: string,
  children: Iterable<Child>,
  edge: { readonly name: string; readonly roles: Roles },
): void {
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot add child "${edge.name}" to ${parent}: ${why}`);
  };
  const { roles } = edge;
  if ((roles & Role.filtered) !== 0 && (roles & NOT_FILTERED) !== 0) {
    refuse(`a child can't be "filtered" and "${roleNames(roles & NOT_FILTERED).join('", "')}" at once`);
  }
  for (const other of children) {
    if (other.name === edge.name) continue;
    const twice = SINGLE.find((role) => (roles & other.roles & role) !== 0);
    if (twice !== undefined)
      refuse(`child "${other.name}" is its "${roleNames(twice).join()}" child already`);
    const both = Role.filtered | Role.cow;
    if ((roles & both) !== 0 && (other.roles & both) !== 0)
      refuse(`child "${other.name}" is its "${roleNames(other.roles & both).join()}" child already`);
  }
}
