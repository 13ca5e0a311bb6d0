import type { Driver } from '../src/block/driver.ts';
import { rawDriver } from './format/raw.ts';
import { memDriver } from './protocol/mem.ts';

/** Every driver of the program. A new driver is a new line here (test/rules compares the list with the folders). */
export const DRIVERS: readonly Driver[] = [rawDriver, memDriver];
