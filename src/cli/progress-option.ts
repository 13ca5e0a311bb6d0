import { choice, optional } from '../block/schema.ts';

/** Of commands that may take long; the program reads it for all of them. */
export const PROGRESS_OPTION = {
  progress: {
    schema: optional(
      choice(
        ['auto', 'on', 'off'],
        'Tell how far it is: on a terminal when it takes longer than two seconds (auto, the default), in any case, or ' +
          'not at all; signal USR1 asks for one line at any time',
      ),
      'auto',
    ),
    value: 'when',
  },
} as const;
