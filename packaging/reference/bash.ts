import { DRIVERS } from '../../drivers/index.ts';
import { completedCommands, GLOBAL_OPTIONS } from './completions.ts';
import type { CompletedCommand, CompletedOption, Kind } from './completions.ts';

/** A completion script for bash; it needs nothing of the package bash-completion. */
export function bashCompletion(): string {
  const commands = completedCommands();
  return `# bash completion for blockfuse, made from the declarations of its commands.
_blockfuse_offer() { mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$1" -- "$2"); }
_blockfuse_files() { compopt -o filenames 2>/dev/null; mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen "$1" -- "$2"); }
_blockfuse_mounts() { _blockfuse_offer "$(while read -r _ at type _; do [[ $type == fuse.blockfuse ]] && echo "$at"; done < /proc/self/mounts)" "$1"; }
_blockfuse() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} command='' place=0 index word
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    if [[ -z $command ]]; then
      [[ $word != -* ]] && command=$word
    elif [[ $word == -* ]]; then
      _blockfuse_takes_value "$command" "$word" && ((index++))
    else
      ((place++))
    fi
  done
  if [[ -z $command ]]; then
    _blockfuse_offer '${[...commands.map(({ name }) => name), ...GLOBAL_OPTIONS.flatMap(words)].join(' ')}' "$current"
    return
  fi
  case $command in
${commands.map(caseOf).join('\n')}
  esac
}
_blockfuse_takes_value() {
  case "$1 $2" in
${commands.flatMap(valueCases).join('\n')}
    *) return 1 ;;
  esac
}
complete -F _blockfuse blockfuse
`;
}

const DRIVER_NAMES = DRIVERS.map(({ name }) => name).join(' ');

function words({ name, short }: Pick<CompletedOption, 'name' | 'short'>): string[] {
  return [...(name === '' ? [] : [`--${name}`]), ...(short === undefined ? [] : [`-${short}`])];
}

function caseOf(command: CompletedCommand): string {
  const values = command.options.flatMap((option) =>
    option.kind === undefined ? [] : [`        ${words(option).join('|')}) ${offer(option)} return ;;`],
  );
  const ofValues = values.length === 0 ? '' : `      case $before in\n${values.join('\n')}\n      esac\n`;
  const places = command.arguments.map(({ kind }, place) => `        ${place}) ${byKind(kind)} ;;`);
  const ofPlaces = places.length === 0 ? '' : `      case $place in\n${places.join('\n')}\n      esac\n`;
  const offered = command.options.flatMap(words).join(' ');
  return `    ${command.name})
${ofValues}      if [[ $current == -* ]]; then _blockfuse_offer '${offered}' "$current"; return; fi
${ofPlaces}      ;;`;
}

function offer({ choices, kind }: CompletedOption): string {
  if (choices !== undefined) return `_blockfuse_offer '${choices.join(' ')}' "$current";`;
  return kind === 'nothing' || kind === undefined ? '' : `${byKind(kind)};`;
}

function byKind(kind: Kind): string {
  switch (kind) {
    case 'file':
      return '_blockfuse_files -f "$current"';
    case 'folder':
      return '_blockfuse_files -d "$current"';
    case 'driver':
      return `_blockfuse_offer '${DRIVER_NAMES}' "$current"`;
    case 'mount':
      return '_blockfuse_mounts "$current"';
    case 'command':
      return `_blockfuse_offer '${completedCommands()
        .map(({ name }) => name)
        .join(' ')}' "$current"`;
    case 'nothing':
      return ':';
  }
}

function valueCases(command: CompletedCommand): string[] {
  const withValue = command.options.filter(({ kind }) => kind !== undefined).flatMap(words);
  if (withValue.length === 0) return [];
  return [`    ${withValue.map((word) => `"${command.name} ${word}"`).join('|')}) return 0 ;;`];
}
