import type { NewImageContext } from './driver.ts';
import { BlockError } from './errors.ts';
import { normalizeGuid } from '../util/guid.ts';

/** Where the GUID by which an overlay knows its parent comes from. */
export interface GuidSource {
  /** Format that the parent has to have: what holds a GUID of that name may be of another. */
  readonly format: string;
  /** Option that gives it. */
  readonly option: string;
  /** Key of the parent's format-specific info that holds it. */
  readonly key: string;
}

/** The GUID of a new overlay's parent: from its option, else asked of the parent (option `backing_file`). */
export async function parentGuid(
  context: NewImageContext,
  options: Readonly<Record<string, unknown>>,
  { format, option, key }: GuidSource,
): Promise<string> {
  const { subject } = context;
  const given = options[option];
  const name = options['backing_file'];
  const known =
    given === undefined && typeof name === 'string'
      ? (await context.describe?.(name, format))?.formatSpecific?.[key]
      : given;
  const guid = typeof known === 'string' ? normalizeGuid(known) : undefined;
  if (guid !== undefined) return guid;
  const is =
    given === undefined
      ? `the parent's ${key} is not known`
      : `option "${option}" is ${JSON.stringify(given)}`;
  throw new BlockError('EINVAL', `Cannot create "${subject}": ${is}, must be a GUID (option "${option}")`);
}
