/**
 * A command line command as data: the parser, `--help`, the man page and the completions all come from it.
 * The code behind it is imported when it runs: asking for help loads no driver.
 */
import * as v from 'valibot';

export interface Option<Schema extends v.GenericSchema = v.GenericSchema> {
  /** Type, check and description (schema.ts of the block layer). */
  readonly schema: Schema;
  /** What help calls the value; a flag without one. */
  readonly value?: string;
  /** One letter. */
  readonly short?: string;
  /** May be given several times: its schema is made by `repeated`. */
  readonly repeat?: boolean;
}

/** One value of an option that may be given several times, and its place among all of those. */
export interface Repeated {
  readonly text: string;
  readonly order: number;
}

/** The schema of such an option. */
export function repeated(description: string) {
  const values = v.optional(v.array(v.custom<Repeated>((value) => typeof value === 'object')), []);
  return v.pipe(values, v.description(description));
}

/** By long name, without the dashes. */
export type Options = Readonly<Record<string, Option>>;
export type OptionValues<Given extends Options> = {
  readonly [Name in keyof Given]: v.InferOutput<Given[Name]['schema']>;
};

export interface Argument {
  readonly name: string;
  readonly summary: string;
  readonly optional?: boolean;
}

export interface Example {
  readonly command: string;
  readonly text: string;
}

export interface Command<Given extends Options = Options> {
  readonly name: string;
  /** One line, without a full stop. */
  readonly summary: string;
  /** Paragraphs. */
  readonly description: readonly string[];
  readonly arguments: readonly Argument[];
  readonly options: Given;
  readonly examples: readonly Example[];
  /** Fuse style `-o a,b=c`: each key is one of `options`. */
  readonly mountOptions?: boolean;
  /** The exit code. What it throws is printed and becomes exit code 1, a UsageError 2. */
  run(call: Call<Given>): Promise<number>;
}

export interface Call<Given extends Options = Options> {
  readonly arguments: readonly string[];
  readonly options: OptionValues<Given>;
  /** Words of `-o` that are no options of ours. */
  readonly mountWords: readonly string[];
}

/** Declares a command; the types of its options follow from their schemas. */
export function defineCommand<const Given extends Options>(command: Command<Given>): Command {
  return command as unknown as Command;
}

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
