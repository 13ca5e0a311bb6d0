import { BlockError } from '../../../src/block/errors.ts';
import type { HttpAnswer } from '../../../src/sys/http-client.ts';

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/** Where an answer sends to; undefined when it does not. */
export function redirected({ status, headers }: HttpAnswer, from: URL): URL | undefined {
  if (!REDIRECTS.includes(status)) return undefined;
  const { location = '' } = headers;
  const to = location === '' || !URL.canParse(location, from.href) ? undefined : new URL(location, from);
  if (to === undefined || !/^https?:$/.test(to.protocol))
    throw new BlockError('EIO', `the server redirects to "${location}", must be an http or https URL`);
  if (from.protocol === 'https:' && to.protocol === 'http:')
    throw new BlockError(
      'EACCES',
      `the server redirects from https to "${to.origin}", which is not encrypted`,
    );
  return to;
}

/** Passwords and cookies are for the server that the user named. */
export const originsDiffer = (one: URL, other: URL): boolean => one.origin !== other.origin;
