import { defineOperation, NO_BODY } from '../state.ts';

/** The last request of some kinds of mount; the end of the session (ENODEV) is what counts. */
export const destroy = defineOperation({ kind: 'now', run: () => NO_BODY });
