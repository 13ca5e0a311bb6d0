import { encodeStatfsOut } from '../protocol/attributes.ts';
import { defineOperation } from '../state.ts';

/** The file system that the image lies on: what `df` shows is what writes can use up. */
export const statfs = defineOperation({
  kind: 'later',
  run: async (state) => encodeStatfsOut(await state.usage()),
});
