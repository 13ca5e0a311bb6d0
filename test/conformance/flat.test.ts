import { FLAT } from './flat.ts';
import { conform } from './suite.ts';

conform(FLAT);
