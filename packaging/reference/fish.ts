import { DRIVERS } from '../../drivers/index.ts';
import { completedCommands, GLOBAL_OPTIONS } from './completions.ts';
import type { CompletedCommand, Kind } from './completions.ts';
import type { ShownOption } from './flags.ts';

/** Completions for fish. */
export function fishCompletion(): string {
  const commands = completedCommands();
  const names = commands.map(({ name }) => name).join(' ');
  const lines = [
    '# Made from the declarations of the commands of blockfuse.',
    'function __blockfuse_mounts',
    `    string match -rg '^\\S+ (\\S+) fuse\\.blockfuse ' < /proc/self/mounts`,
    'end',
    `complete -c blockfuse -f`,
    `set -l commands ${names}`,
    ...GLOBAL_OPTIONS.map(
      (option) => `complete -c blockfuse -n "not __fish_seen_subcommand_from $commands" ${switches(option)}`,
    ),
    ...commands.map(
      ({ name, summary }) =>
        `complete -c blockfuse -n "not __fish_seen_subcommand_from $commands" -a ${name} -d ${quote(summary)}`,
    ),
    ...commands.flatMap(ofCommand),
  ];
  return `${lines.join('\n')}\n`;
}

function ofCommand(command: CompletedCommand): string[] {
  const start = `complete -c blockfuse -n "__fish_seen_subcommand_from ${command.name}"`;
  const options = command.options.map((option) => {
    const values =
      option.choices === undefined
        ? byKind(option.kind ?? 'nothing')
        : `-a ${quote(option.choices.join(' '))}`;
    return [
      start,
      switches(option),
      option.value === undefined ? '' : option.kind === 'file' ? '-r -F' : `-x ${values}`,
    ]
      .join(' ')
      .trimEnd();
  });
  const kinds = [...new Set(command.arguments.map(({ kind }) => kind))].filter((kind) => kind !== 'nothing');
  return [...options, ...kinds.map((kind) => `${start} ${byKind(kind)}`)];
}

function switches({ name, short, summary }: ShownOption): string {
  const long = name === '' ? [] : [`-l ${name}`];
  const letter = short === undefined ? [] : [`-s ${short}`];
  return [...letter, ...long, `-d ${quote(summary)}`].join(' ');
}

function byKind(kind: Kind): string {
  switch (kind) {
    case 'file':
      return '-F';
    case 'folder':
      return `-a '(__fish_complete_directories)'`;
    case 'driver':
      return `-a ${quote(DRIVERS.map(({ name }) => name).join(' '))}`;
    case 'mount':
      return `-a '(__blockfuse_mounts)'`;
    case 'command':
      return `-a ${quote(
        completedCommands()
          .map(({ name }) => name)
          .join(' '),
      )}`;
    case 'nothing':
      return '';
  }
}

const quote = (text: string): string => `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`;
