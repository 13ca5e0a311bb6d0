/** How help and the manual write an option. */
import type { Command, Option } from '../../src/cli/command.ts';
import { describeSchema } from '../../src/cli/describe-schema.ts';
import { HELP_OPTION, MOUNT_OPTION } from '../../src/cli/standard-options.ts';
import { choicesOf } from './values.ts';

export interface ShownOption {
  /** Long name without dashes; '' when it has only a letter. */
  readonly name: string;
  readonly short: string | undefined;
  /** What the value is called; undefined for a flag. */
  readonly value: string | undefined;
  readonly flags: string;
  readonly summary: string;
  readonly choices: readonly string[] | undefined;
}

/** Every option of a command, in the order of its help: its own, `-o`, `-h`. */
export function shownOptions(command: Command): readonly ShownOption[] {
  const own = Object.entries(command.options).map(([name, option]) => shown(name, option));
  const standard = [...(command.mountOptions === true ? [MOUNT_OPTION] : []), HELP_OPTION];
  return [...own, ...standard.map(fromFlags)];
}

function shown(name: string, option: Option): ShownOption {
  const { short, value, schema } = option;
  const letter = short === undefined ? '' : `-${short}, `;
  return {
    name,
    short,
    value,
    flags: `${letter}--${name}${value === undefined ? '' : ` <${value}>`}`,
    summary: describeSchema(schema),
    choices: value === undefined ? undefined : choicesOf(schema),
  };
}

export function fromFlags({ flags, summary }: { flags: string; summary: string }): ShownOption {
  return {
    name: /--([\w-]+)/.exec(flags)?.[1] ?? '',
    short: /(?:^|\s)-(\w)\b/.exec(flags)?.[1],
    value: /<([^>]+)>/.exec(flags)?.[1],
    flags,
    summary,
    choices: undefined,
  };
}
