import { QCOW2 } from './qcow2.ts';
import { conform } from './suite.ts';

conform(QCOW2);
