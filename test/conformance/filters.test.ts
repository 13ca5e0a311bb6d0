import { FILTERS } from './filters.ts';
import { conform } from './suite.ts';

conform(FILTERS);
