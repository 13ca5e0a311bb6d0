import * as v from 'valibot';
import type { OptionEntries, OptionsOf } from '../block/schema.ts';

export type ErrorClass = 'GenericError' | 'CommandNotFound' | 'DeviceNotFound';

/** What a command answers with when it can't; every other error becomes a GenericError with the error's text. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly errorClass: ErrorClass;

  constructor(errorClass: ErrorClass, message: string) {
    super(message);
    this.errorClass = errorClass;
  }
}

/** A command of the control socket: a name, what it takes and what it does. Its answer is a JSON value. */
export interface ControlCommand<Entries extends OptionEntries = OptionEntries> {
  readonly name: string;
  readonly summary: string;
  readonly arguments: Entries;
  run(given: OptionsOf<Entries>): Promise<unknown>;
}

/** Declares a command; the types of its arguments follow from the schema. */
export function defineControlCommand<const Entries extends OptionEntries>(
  command: ControlCommand<Entries>,
): ControlCommand {
  return command as unknown as ControlCommand;
}

/** The arguments as the command's schema has them; throws a CommandError that names the first one that is wrong. */
export function parseArguments(command: ControlCommand, given: unknown): OptionsOf<OptionEntries> {
  const result = v.safeParse(v.strictObject(command.arguments), given ?? {});
  if (result.success) return result.output;
  const [issue] = result.issues;
  const name = v.getDotPath(issue) ?? 'arguments';
  throw new CommandError('GenericError', wrongArgument(name, issue));
}

function wrongArgument(name: string, issue: v.BaseIssue<unknown>): string {
  if (issue.expected === 'never') return `Parameter '${name}' is unexpected`;
  if (issue.input === undefined) return `Parameter '${name}' is missing`;
  return `Parameter '${name}' ${issue.message}`;
}
