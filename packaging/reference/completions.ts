/** What can be completed where: the same for every shell. */
import { COMMANDS } from '../../src/cli/commands.ts';
import type { Argument, Command } from '../../src/cli/command.ts';
import { HELP_OPTION, VERSION_OPTION } from '../../src/cli/standard-options.ts';
import { fromFlags, shownOptions } from './flags.ts';
import type { ShownOption } from './flags.ts';

/** What a shell offers for a word: file names, folders, names of drivers, places where disks are mounted, commands. */
export type Kind = 'file' | 'folder' | 'driver' | 'mount' | 'command' | 'nothing';

export interface CompletedOption extends ShownOption {
  /** Of the value; undefined for a flag. Words of `choices` come first. */
  readonly kind: Kind | undefined;
}

export interface CompletedCommand {
  readonly name: string;
  readonly summary: string;
  readonly arguments: readonly { readonly name: string; readonly kind: Kind }[];
  readonly options: readonly CompletedOption[];
}

export const GLOBAL_OPTIONS: readonly ShownOption[] = [HELP_OPTION, VERSION_OPTION].map(fromFlags);

export function completedCommands(): readonly CompletedCommand[] {
  return [...COMMANDS.map(completed), HELP];
}

const HELP: CompletedCommand = {
  name: 'help',
  summary: 'Show help for a command',
  arguments: [{ name: 'command', kind: 'command' }],
  options: [],
};

function completed(command: Command): CompletedCommand {
  return {
    name: command.name,
    summary: command.summary,
    arguments: command.arguments.map((argument) => ({
      name: argument.name,
      kind: argumentKind(command, argument),
    })),
    options: shownOptions(command).map((option) => ({ ...option, kind: optionKind(option) })),
  };
}

/** Commands that end what another command began. */
const ENDING = new Set(['unmount', 'detach']);

function argumentKind(command: Command, { name }: Argument): Kind {
  if (ENDING.has(command.name)) return 'mount';
  if (name === 'mountpoint') return 'folder';
  if (name === 'driver') return 'driver';
  return /size|key|value/.test(name) ? 'nothing' : 'file';
}

function optionKind({ name, value }: ShownOption): Kind | undefined {
  if (value === undefined) return undefined;
  if (/(^|-)format$/.test(name)) return 'driver';
  if (value === 'folder') return 'folder';
  return value === 'file' || name === 'backing' ? 'file' : 'nothing';
}
