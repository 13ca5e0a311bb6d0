import { PACKED } from './packed.ts';
import { conform } from './suite.ts';

conform(PACKED);
