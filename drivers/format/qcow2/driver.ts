import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { checkNewQcow2, createQcow2 } from './create.ts';
import { CREATE_OPTIONS } from './create-options.ts';
import { Qcow2Disk } from './disk.ts';
import { MAGIC } from './header.ts';
import { measureQcow2 } from './measure.ts';
import { openQcow2 } from './open.ts';
import { QCOW2_OPTIONS } from './options.ts';

/** Versions 2 and 3; version 1 is the qcow driver's. */
function probe(head: Buffer): number {
  if (head.length < 8 || head.readUInt32BE(0) !== MAGIC) return 0;
  return head.readUInt32BE(4) >= 2 ? 100 : 0;
}

export const qcow2Driver = defineDriver({
  name: 'qcow2',
  kind: 'format',
  summary: 'QEMU copy-on-write image, versions 2 and 3',
  options: QCOW2_OPTIONS,
  children: {
    file: {
      roles: Role.data | Role.metadata | Role.primary,
      required: true,
      summary: 'The file that holds the image',
    },
    'data-file': {
      roles: Role.data,
      required: false,
      summary: 'The external data file, where the image has one',
    },
    backing: { roles: Role.cow, required: false, summary: 'What unallocated clusters are read from' },
  },
  probe,
  open: openQcow2,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNewQcow2,
  create: createQcow2,
  measure: measureQcow2,
  check: (open, options) => {
    if (open instanceof Qcow2Disk) return open.check(options);
    return Promise.reject(new BlockError('EINVAL', 'Cannot check: not an open qcow2 image'));
  },
});
