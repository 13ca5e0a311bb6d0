import { CommandError } from './command.ts';

/** A request as it came, its outer form checked. */
export interface Request {
  readonly name: string;
  readonly arguments: unknown;
  /** To be run at once, past those that came before. */
  readonly outOfBand: boolean;
}

/** The JSON value of a text; throws a CommandError. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandError('GenericError', `JSON parse error, ${why.slice(0, 200)}`);
  }
}

/** What a client wants sent back with the answer; undefined when it gave none. */
export function requestId(value: unknown): { id: unknown } | undefined {
  return isObject(value) && 'id' in value ? { id: value['id'] } : undefined;
}

/** Throws a CommandError that names the first member that is wrong. */
export function parseRequest(value: unknown, mayBeOutOfBand: boolean): Request {
  if (!isObject(value)) refuse('must be a JSON object');
  const { execute, 'exec-oob': outOfBand, arguments: given, id: _id, ...rest } = value;
  const known = mayBeOutOfBand ? rest : { ...(outOfBand === undefined ? {} : { 'exec-oob': 0 }), ...rest };
  const [unexpected] = Object.keys(known);
  if (unexpected !== undefined) refuse(`member '${unexpected}' is unexpected`);
  if (execute !== undefined && outOfBand !== undefined)
    refuse("member 'exec-oob' clashes with member 'execute'");
  const name = execute ?? outOfBand;
  if (name === undefined) throw new CommandError('GenericError', "QMP input lacks member 'execute'");
  if (typeof name !== 'string')
    refuse(`member '${execute === undefined ? 'exec-oob' : 'execute'}' must be a string`);
  if (given !== undefined && !isObject(given)) refuse("member 'arguments' must be an object");
  return { name, arguments: given, outOfBand: outOfBand !== undefined };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refuse(why: string): never {
  throw new CommandError('GenericError', `QMP input ${why}`);
}
