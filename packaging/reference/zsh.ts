import { DRIVERS } from '../../drivers/index.ts';
import { completedCommands, GLOBAL_OPTIONS } from './completions.ts';
import type { CompletedCommand, CompletedOption, Kind } from './completions.ts';
import type { ShownOption } from './flags.ts';

/** A completion function for zsh, to lie in its fpath as `_blockfuse`. */
export function zshCompletion(): string {
  const commands = completedCommands();
  return `#compdef blockfuse
# Made from the declarations of the commands of blockfuse.
_blockfuse_drivers() { local -a drivers=(${DRIVERS.map(({ name }) => quote(name)).join(' ')}); compadd -a drivers }
_blockfuse_mounts() {
  local -a mounts
  local line
  for line in "\${(@f)$(</proc/self/mounts)}"; do
    [[ \${line[(w)3]} == fuse.blockfuse ]] && mounts+=(\${line[(w)2]})
  done
  compadd -a mounts
}
_blockfuse_commands() {
  local -a commands=(
${commands.map(({ name, summary }) => `    ${quote(`${name}:${summary}`)}`).join('\n')}
  )
  _describe command commands
}
_blockfuse() {
  local curcontext=$curcontext state line
  _arguments -C ${GLOBAL_OPTIONS.map(spec).join(' ')} '1: :_blockfuse_commands' '*:: :->command'
  [[ $state == command ]] || return
  case $line[1] in
${commands.map(caseOf).join('\n')}
  esac
}
_blockfuse "$@"
`;
}

function caseOf(command: CompletedCommand): string {
  const options = command.options.map(spec);
  const places = command.arguments.map(({ name, kind }, index) =>
    quote(`${index + 1}:${escapeSpec(name)}:${byKind(kind)}`),
  );
  return `    ${command.name})
      _arguments -s -S \\
        ${[...options, ...places].join(' \\\n        ')}
      ;;`;
}

function spec(option: ShownOption & Partial<Pick<CompletedOption, 'kind'>>): string {
  const { name, short, value, choices, kind = 'nothing' } = option;
  const offered = choices === undefined ? byKind(kind) : `(${choices.join(' ')})`;
  const tail = `[${escapeSpec(option.summary)}]${value === undefined ? '' : `:${escapeSpec(value)}:${offered}`}`;
  if (name === '') return quote(`-${short ?? ''}${tail}`);
  if (short === undefined) return quote(`--${name}${tail}`);
  return `'(-${short} --${name})'{-${short},--${name}}${quote(tail)}`;
}

function byKind(kind: Kind): string {
  switch (kind) {
    case 'file':
      return '_files';
    case 'folder':
      return '_files -/';
    case 'driver':
      return '_blockfuse_drivers';
    case 'mount':
      return '_blockfuse_mounts';
    case 'command':
      return '_blockfuse_commands';
    case 'nothing':
      return ' ';
  }
}

/** Inside a specification of _arguments. */
const escapeSpec = (text: string): string => text.replaceAll(/[[\]:\\]/g, String.raw`\$&`);
const quote = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;
