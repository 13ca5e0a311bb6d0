import * as v from 'valibot';
import { PERMISSION_NAMES } from '../../../src/block/permissions.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { bool, choice, integer, list, optional, size, text } from '../../../src/block/schema.ts';
import { EVENTS, IO_TYPES } from './events.ts';

const event = choice(EVENTS, 'Event that the rule waits for');
const state = optional(integer('State that the rule holds in; 0 for any'), 0);

export const INJECT_ERROR = {
  event,
  iotype: optional(choice(IO_TYPES, 'Kind of requests that fail')),
  state,
  errno: optional(integer('Number of the error', 1, 4095), 5),
  sector: optional(integer('Sector that the request must touch; -1 for any', -1), -1),
  once: optional(bool('Only the first request fails'), false),
  immediately: optional(bool('Fail at once, not some time later'), false),
};

export const SET_STATE = { event, state, new_state: integer('State from then on') };

const permissions = (description: string) =>
  optional(list(choice(PERMISSION_NAMES, 'Permission'), description), []);

export const OPTIONS = {
  config: optional(text('File with rules, in the sections [inject-error] and [set-state]')),
  'inject-error': optional(list(v.strictObject(INJECT_ERROR), 'Rules by which requests fail'), []),
  'set-state': optional(list(v.strictObject(SET_STATE), 'Rules by which the state changes'), []),
  align: optional(size('Request alignment; a power of two')),
  'max-transfer': optional(size('Most bytes of a request')),
  'opt-write-zero': optional(size('Alignment of write-zeroes requests')),
  'max-write-zero': optional(size('Most bytes of a write-zeroes request')),
  'opt-discard': optional(size('Alignment of discards')),
  'max-discard': optional(size('Most bytes of a discard')),
  'take-child-perms': permissions('Permissions to use of the image beyond what is needed'),
  'unshare-child-perms': permissions('Permissions on the image to keep others from having'),
};
export type Options = OptionsOf<typeof OPTIONS>;
