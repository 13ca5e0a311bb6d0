import { defineDriver } from '../../../src/block/driver.ts';
import { defaultPermissions } from '../../../src/block/permission-defaults.ts';
import { Permission, Role } from '../../../src/block/permissions.ts';
import { subformats } from '../../../src/block/subformat.ts';
import { checkVmdk } from './check.ts';
import { checkNewVmdk, CREATE_OPTIONS, createStream, createVmdk } from './create.ts';
import { isDescriptor } from './descriptor.ts';
import { ONLY_READ } from './extent-files.ts';
import { openVmdk } from './open.ts';
import { hasTables } from './read-header.ts';

export const vmdkDriver = defineDriver({
  name: 'vmdk',
  kind: 'format',
  summary: 'VMware disk: sparse, flat, split, stream-optimized, ESXi, and chains of snapshots',
  subformats: subformats({
    monolithicSparse: 'wc',
    monolithicFlat: 'wc',
    twoGbMaxExtentSparse: 'wc',
    twoGbMaxExtentFlat: 'wc',
    vmfs: 'wc',
    vmfsThin: 'w',
    vmfsSparse: 'w',
    streamOptimized: 'c',
    seSparse: '',
    fullDevice: 'w',
    partitionedDevice: 'w',
    custom: 'w',
  }),
  options: {},
  children: {
    file: {
      roles: Role.data | Role.metadata | Role.primary,
      required: true,
      summary: 'The image, or its descriptor',
    },
    'extents.*': { roles: Role.data, required: false, summary: 'The file of extent N, counted from 0' },
    backing: { roles: Role.cow, required: false, summary: 'The parent of a snapshot' },
  },
  probe: (head) => (hasTables(head) || isDescriptor(head) ? 100 : 0),
  open: openVmdk,
  childPermissions: (_name, roles, parent, readOnly) =>
    roles === ONLY_READ
      ? { used: parent.used & Permission.consistentRead, shared: parent.shared }
      : defaultPermissions(roles, parent, readOnly),
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNewVmdk,
  create: createVmdk,
  createSequential: createStream,
  check: checkVmdk,
});
