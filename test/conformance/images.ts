import { ENCRYPTED } from './encrypted.ts';
import { FILTERS } from './filters.ts';
import { FLAT } from './flat.ts';
import { MACHINES } from './machines.ts';
import { PACKED } from './packed.ts';
import { QCOW2 } from './qcow2.ts';
import type { Subject } from './subject.ts';
import { VMDK } from './vmdk.ts';

/** Every kind of image that the suite is run for, a family a test file. A driver's tests are a line in one of them and its regressions. */
export const FAMILIES: Readonly<Record<string, readonly Subject[]>> = {
  flat: FLAT,
  qcow2: QCOW2,
  encrypted: ENCRYPTED,
  vmdk: VMDK,
  machines: MACHINES,
  packed: PACKED,
  filters: FILTERS,
};
