import { ENCRYPTED } from './encrypted.ts';
import { conform } from './suite.ts';

conform(ENCRYPTED);
