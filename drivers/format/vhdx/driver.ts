import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { subformats } from '../../../src/block/subformat.ts';
import { checkImage } from './check.ts';
import { checkNew, create, CREATE_OPTIONS } from './create.ts';
import { FILE_SIGNATURE } from './header.ts';
import { open } from './open.ts';

export const vhdxDriver = defineDriver({
  name: 'vhdx',
  kind: 'format',
  summary: 'Hyper-V disk image (VHDX): dynamic, fixed, differencing',
  subformats: subformats({ dynamic: 'wc', fixed: 'wc', differencing: 'wc' }),
  options: {},
  children: {
    file: {
      roles: Role.data | Role.metadata | Role.primary,
      required: true,
      summary: 'The file that holds the image',
    },
    backing: { roles: Role.cow, required: false, summary: 'Parent of a differencing image' },
  },
  probe: (head) => (head.length >= 8 && head.toString('latin1', 0, 8) === FILE_SIGNATURE ? 100 : 0),
  open,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNew,
  create,
  check: checkImage,
});
