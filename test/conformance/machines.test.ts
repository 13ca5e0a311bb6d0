import { MACHINES } from './machines.ts';
import { conform } from './suite.ts';

conform(MACHINES);
