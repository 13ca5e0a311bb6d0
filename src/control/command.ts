import * as v from 'valibot';
import type { OptionEntries, OptionsOf } from '../block/schema.ts';
import { CommandError } from './command-error.ts';
import { refuseOtherTypes, wrongArgument } from './wrong-argument.ts';

export { CommandError };
export type { ErrorClass } from './command-error.ts';

/** The client that a command came from. */
export interface ControlClient {
  /** The oldest descriptor that it has sent and that no command has taken; the caller owns it then. */
  takeDescriptor(): number | undefined;
}

/** A command of the control socket: a name, what it takes and what it does. Its answer is a JSON value. */
export interface ControlCommand<Entries extends OptionEntries = OptionEntries> {
  readonly name: string;
  readonly summary: string;
  readonly arguments: Entries;
  /** Takes further arguments that are not declared: options of a driver. */
  readonly open?: boolean;
  run(given: OptionsOf<Entries>, client: ControlClient): Promise<unknown>;
}

/** Declares a command; the types of its arguments follow from the schema. */
export function defineControlCommand<const Entries extends OptionEntries>(
  command: ControlCommand<Entries>,
): ControlCommand {
  return command as unknown as ControlCommand;
}

/** The arguments as the command's schema has them; throws a CommandError that names the first one that is wrong. */
export function parseArguments(command: ControlCommand, given: unknown): OptionsOf<OptionEntries> {
  refuseOtherTypes(command.arguments, given);
  const schema = command.open === true ? v.looseObject(command.arguments) : v.strictObject(command.arguments);
  const result = v.safeParse(schema, given ?? {});
  if (result.success) return result.output;
  throw new CommandError('GenericError', wrongArgument(result.issues[0], command.arguments));
}
