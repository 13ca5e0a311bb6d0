import { VMDK } from './vmdk.ts';
import { conform } from './suite.ts';

conform(VMDK);
