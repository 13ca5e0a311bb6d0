import type { Driver } from './driver.ts';
import type { Node } from './node.ts';
import { ALL_PERMISSIONS, Permission, Role } from './permissions.ts';
import type { PermissionPair, Roles } from './permissions.ts';

const CHANGING = Permission.write | Permission.resize;

/**
 * What a node uses of a child and lets others do with it, from what its own parents use and share. A driver with other
 * needs says so in `childPermissions`. A child opened with force-share does not keep anybody out, whatever its parent needs.
 */
export function childPermissions(
  driver: Driver,
  edge: { readonly name: string; readonly roles: Roles; readonly node: Node },
  parent: PermissionPair,
  readOnly: boolean,
): PermissionPair {
  const pair =
    driver.childPermissions?.(edge.name, edge.roles, parent, readOnly) ??
    defaultPermissions(edge.roles, parent, readOnly);
  return edge.node.common.forceShare ? { used: pair.used, shared: ALL_PERMISSIONS } : pair;
}

/** By role alone, as QEMU has it. */
export function defaultPermissions(roles: Roles, parent: PermissionPair, readOnly: boolean): PermissionPair {
  if ((roles & Role.filtered) !== 0) return parent;
  if ((roles & Role.cow) !== 0) return cowPermissions(parent);
  return storagePermissions(roles, parent, readOnly);
}

/** A backing file is read; others may change it only if nobody above minds its content changing. */
function cowPermissions(parent: PermissionPair): PermissionPair {
  const changing = (parent.shared & Permission.write) === 0 ? 0 : CHANGING;
  return {
    used: parent.used & Permission.consistentRead,
    shared: Permission.consistentRead | Permission.writeUnchanged | changing,
  };
}

/**
 * What is passed on, and for metadata: the tables of an image that can be written are, even when no guest data is, and nobody
 * else may touch them. For guest data: nobody else may resize it, and writing may mean growing.
 */
function storagePermissions(roles: Roles, parent: PermissionPair, readOnly: boolean): PermissionPair {
  let { used, shared } = parent;
  if ((roles & Role.metadata) !== 0) {
    used |= Permission.consistentRead | (readOnly ? 0 : CHANGING);
    shared &= ~CHANGING;
  }
  if ((roles & Role.data) !== 0) {
    if ((used & Permission.write) !== 0) used |= Permission.resize;
    shared &= ~Permission.resize;
  }
  return { used, shared };
}
