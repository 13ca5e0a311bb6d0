import type { ObjectType } from './objects.ts';
import { throttleGroupType } from './throttle-group.ts';

/** Every type of object that `--object` and `object-add` make. */
export const OBJECT_TYPES: readonly ObjectType[] = [throttleGroupType];
