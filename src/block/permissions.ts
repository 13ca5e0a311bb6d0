/** Permission bits, numbered as QEMU does: the number is also the byte of the image lock (100 + bit index). */
export const Permission = {
  consistentRead: 1,
  write: 2,
  writeUnchanged: 4,
  resize: 8,
} as const;
export type Permissions = number;
export const NO_PERMISSIONS: Permissions = 0;
export const ALL_PERMISSIONS: Permissions = 15;

export const PERMISSION_NAMES = ['consistent-read', 'write', 'write-unchanged', 'resize'] as const;
export type PermissionName = (typeof PERMISSION_NAMES)[number];

/** Role bits of a child edge. At most one primary, one filtered, one cow; filtered excludes data, metadata and cow. */
export const Role = {
  data: 1,
  metadata: 2,
  filtered: 4,
  cow: 8,
  primary: 16,
} as const;
export type Roles = number;
export const ROLE_NAMES = ['data', 'metadata', 'filtered', 'cow', 'primary'] as const;

/** Permissions used and shared, of one edge or summed over all parents of a node. */
export interface PermissionPair {
  readonly used: Permissions;
  readonly shared: Permissions;
}

/** The names of the permissions in a set, in bit order. */
export function permissionNames(set: Permissions): PermissionName[] {
  return PERMISSION_NAMES.filter((_, bit) => (set & (1 << bit)) !== 0);
}

/** The names of the roles in a set, in bit order. */
export function roleNames(roles: Roles): string[] {
  return ROLE_NAMES.filter((_, bit) => (roles & (1 << bit)) !== 0);
}
