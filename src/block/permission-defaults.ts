import type { Driver } from './driver.ts';
import { ALL_PERMISSIONS, Permission, Role } from './permissions.ts';
import type { PermissionPair, Roles } from './permissions.ts';

const CHANGING = Permission.write | Permission.resize;

/**
 * What a node uses of a child and lets others do with it, from what its own parents use and share. A driver with other
 * needs says so in `childPermissions`.
 */
export function childPermissions(
  driver: Driver,
  edge: { name: string; roles: Roles },
  parent: PermissionPair,
  readOnly: boolean,
): PermissionPair {
  if (driver.childPermissions !== undefined)
    return driver.childPermissions(edge.name, edge.roles, parent, readOnly);
  if ((edge.roles & Role.filtered) !== 0) return parent;
  if ((edge.roles & Role.cow) !== 0) return cowPermissions(parent);
  if ((edge.roles & Role.metadata) !== 0) return metadataPermissions(parent, readOnly);
  return dataPermissions(parent, readOnly);
}

/** A backing file is read; others may change it only if nobody above minds its content changing. */
function cowPermissions(parent: PermissionPair): PermissionPair {
  const changing = (parent.shared & Permission.write) === 0 ? 0 : CHANGING;
  return {
    used: parent.used & Permission.consistentRead,
    shared: Permission.consistentRead | Permission.writeUnchanged | changing,
  };
}

/** An image that can be written has its tables written even when no guest data is: always write and resize. */
function metadataPermissions(parent: PermissionPair, readOnly: boolean): PermissionPair {
  const used =
    Permission.consistentRead | (readOnly ? 0 : CHANGING) | (parent.used & Permission.writeUnchanged);
  return { used: readOnly ? used & ~Permission.writeUnchanged : used, shared: ALL_PERMISSIONS & ~CHANGING };
}

/** A file that holds guest data and nothing else: written when the guest writes, grown for it. */
function dataPermissions(parent: PermissionPair, readOnly: boolean): PermissionPair {
  const writes = !readOnly && (parent.used & (CHANGING | Permission.writeUnchanged)) !== 0;
  return {
    used: (parent.used & Permission.consistentRead) | (writes ? CHANGING : 0),
    shared: ALL_PERMISSIONS & ~CHANGING,
  };
}
