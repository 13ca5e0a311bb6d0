/** The manual page of one command. */
import type { Command } from '../../src/cli/command.ts';
import { shownOptions } from './flags.ts';
import type { ShownOption } from './flags.ts';
import { bold, entry, escape, example, flags, italic, paragraph, section, seeAlso } from './roff.ts';
import type { PageHead } from './roff.ts';

export function commandHead(command: Command): PageHead {
  return { name: `blockfuse-${command.name}`, section: 1, summary: lowerFirst(command.summary) };
}

export function commandPage(command: Command): string[] {
  return [
    ...section('SYNOPSIS', [synopsis(command)]),
    ...section('DESCRIPTION', [
      ...paragraph(escape(`${command.summary}.`)),
      ...command.description.flatMap((text) => paragraph(escape(text))),
    ]),
    ...section(
      'ARGUMENTS',
      command.arguments.flatMap(({ name, summary }) => entry(italic(name), escape(`${summary}.`))),
    ),
    ...section('OPTIONS', shownOptions(command).flatMap(optionEntry)),
    ...section(
      'EXAMPLES',
      command.examples.flatMap((given) => [
        ...paragraph(escape(`${given.text}:`)),
        ...example(given.command),
      ]),
    ),
    ...seeAlso([
      'blockfuse(1)',
      'blockfuse-drivers(7)',
      ...(command.mountOptions === true ? ['mount.fuse.blockfuse(8)'] : []),
    ]),
  ];
}

function synopsis(command: Command): string {
  const words = command.arguments.map(({ name, optional }) =>
    optional === true ? `[${italic(name)}]` : italic(name),
  );
  return [bold(`blockfuse ${command.name}`), `[${italic('options')}]`, ...words].join(' ');
}

export function optionEntry(option: ShownOption): string[] {
  const choices = option.choices === undefined ? '' : ` One of ${option.choices.join(', ')}.`;
  return entry(flags(option.flags), escape(`${option.summary}.${choices}`));
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
