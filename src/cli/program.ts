/** Builds the parser from the declared commands and runs the one that the command line names. */
import { Command as Parser, CommanderError, Option as ParserOption } from 'commander';
import * as v from 'valibot';
import { describeSchema } from './describe-schema.ts';
import type { Command, Option, Options, OptionValues, Repeated } from './command.ts';
import { UsageError } from './command.ts';
import { COMMANDS } from './commands.ts';
import { LOG_COMPONENTS, LOG_EXAMPLE } from './log-components.ts';
import { parseFuseStyle } from './mount-options.ts';
import { complain, complainOf } from './output.ts';
import { HELP_OPTION, MOUNT_OPTION, PROGRAM_SUMMARY, VERSION_OPTION } from './standard-options.ts';
import { VERSION } from './version.ts';

/** The exit code: 0 done, 1 failed, 2 the command line is wrong. */
export async function runProgram(argv: readonly string[]): Promise<number> {
  const outcome = { code: 0 };
  const parser = buildParser(outcome);
  try {
    await parser.parseAsync(withImpliedMount(argv), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : 2;
  }
  return outcome.code;
}

/** `mount -t fuse.blockfuse SOURCE DIR -o ...` runs `blockfuse SOURCE DIR -o ...`. */
function withImpliedMount(argv: readonly string[]): string[] {
  const [first = '', second = ''] = argv;
  const isImage = /^(json:|[^-].*[/.:])/.test(first) && !COMMANDS.some((command) => command.name === first);
  return isImage && second !== '' && !second.startsWith('-') ? ['mount', ...argv] : [...argv];
}

function buildParser(outcome: { code: number }): Parser {
  const parser = new Parser('blockfuse')
    .description(`${PROGRAM_SUMMARY}.`)
    .version(VERSION, VERSION_OPTION.flags, VERSION_OPTION.summary)
    .helpOption(HELP_OPTION.flags, HELP_OPTION.summary)
    .helpCommand('help [command]', 'Show help for a command')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => {
        write(text.replace(/^error: /, 'blockfuse: '));
      },
    });
  parser.addHelpText('after', logHelp());
  for (const command of COMMANDS) addCommand(parser, command, outcome);
  return parser;
}

function logHelp(): string {
  const widest = Math.max(...LOG_COMPONENTS.map(({ name }) => name.length));
  const lines = LOG_COMPONENTS.map(({ name, summary }) => `  blockfuse:${name.padEnd(widest)}  ${summary}`);
  return `\nWith ${LOG_EXAMPLE} components say what they do:\n${lines.join('\n')}`;
}

function addCommand(program: Parser, command: Command, outcome: { code: number }): void {
  const parser = program.command(command.name).summary(command.summary);
  parser.description([`${command.summary}.`, ...command.description].join('\n\n'));
  for (const { name, summary, optional } of command.arguments) {
    parser.argument(optional === true ? `[${name}]` : `<${name}>`, summary);
  }
  for (const [name, option] of Object.entries(command.options)) parser.addOption(parserOption(name, option));
  if (command.mountOptions === true) {
    parser.option(MOUNT_OPTION.flags, MOUNT_OPTION.summary, collect);
  }
  parser.addHelpText('after', examples(command));
  parser.action(async (...given: readonly unknown[]) => {
    outcome.code = await runCommand(command, given.slice(0, command.arguments.length), parser.opts());
  });
}

function parserOption(name: string, option: Option): ParserOption {
  const short = option.short === undefined ? '' : `-${option.short}, `;
  const value = option.value === undefined ? '' : ` <${option.value}>`;
  const parser = new ParserOption(`${short}--${name}${value}`, describeSchema(option.schema));
  return option.repeat === true ? parser.argParser(collectInOrder) : parser;
}

let order = 0;

/** All values of options that may be given several times are numbered together: their order counts. */
function collectInOrder(text: string, before: readonly Repeated[] = []): Repeated[] {
  order += 1;
  return [...before, { text, order }];
}

function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

function examples(command: Command): string {
  if (command.examples.length === 0) return '';
  const lines = command.examples.map((example) => `  ${example.command}\n      ${example.text}`);
  return `\nExamples:\n${lines.join('\n')}`;
}

async function runCommand(
  command: Command,
  given: readonly unknown[],
  parsed: Readonly<Record<string, unknown>>,
): Promise<number> {
  const json = parsed['json'] === true;
  try {
    const fuseStyle = parseFuseStyle(
      command.options,
      Array.isArray(parsed['o']) ? parsed['o'].map(String) : [],
    );
    const options = readOptions(command, { ...parsed, ...fuseStyle.values });
    const { progress } = options;
    if (progress === 'auto' || progress === 'on' || progress === 'off')
      (await import('./progress.ts')).prepareProgress(progress);
    const texts = given.filter((value) => typeof value === 'string');
    return await command.run({ arguments: texts, options, mountWords: fuseStyle.words });
  } catch (error) {
    complainOf(error, json);
    if (!(error instanceof UsageError)) return 1;
    if (!json) complain(`see blockfuse ${command.name} --help`);
    return 2;
  }
}

/** Every declared option through its schema. `given` has the long names, or commander's form of them. */
function readOptions(command: Command, given: Readonly<Record<string, unknown>>): OptionValues<Options> {
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(command.options)) {
    const value = given[camelCase(name)] ?? given[name] ?? negated(name, given);
    const result = v.safeParse(option.schema, value);
    if (!result.success)
      throw new UsageError(`option --${name} is ${JSON.stringify(value)}, ${result.issues[0].message}`);
    values[name] = result.output;
  }
  return values;
}

/** The parser takes `--no-x` for the negation of an option `x`, which is true unless it is given. */
const negated = (name: string, given: Readonly<Record<string, unknown>>): true | undefined =>
  name.startsWith('no-') && given[camelCase(name.slice('no-'.length))] === false ? true : undefined;

/** How commander names the value of a long option. */
const camelCase = (name: string): string =>
  name.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase());
