/** blockfuse(1): the program as a whole. */
import { COMMANDS } from '../../src/cli/commands.ts';
import { LOG_COMPONENTS, LOG_EXAMPLE } from '../../src/cli/log-components.ts';
import { HELP_OPTION, PROGRAM_SUMMARY, VERSION_OPTION } from '../../src/cli/standard-options.ts';
import { optionEntry } from './command-page.ts';
import { fromFlags } from './flags.ts';
import { bold, entry, escape, example, italic, paragraph, section, seeAlso } from './roff.ts';
import type { PageHead } from './roff.ts';

export const PROGRAM_HEAD: PageHead = {
  name: 'blockfuse',
  section: 1,
  summary: `${PROGRAM_SUMMARY.charAt(0).toLowerCase()}${PROGRAM_SUMMARY.slice(1)}`,
};

const EXIT_CODES: readonly (readonly [string, string])[] = [
  ['0', 'Done.'],
  ['1', 'Failed; what is wrong stands on standard error.'],
  ['2', 'The command line is wrong. Some commands give 2 and more a meaning of their own, see their pages.'],
];

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  [
    'DEBUG',
    'Components that say what they do on standard error (a server: in its log), separated by commas: ' +
      `${LOG_COMPONENTS.map(({ name, summary }) => `blockfuse:${name} (${summary})`).join(', ')}; ` +
      `all but the data path: ${LOG_EXAMPLE}.`,
  ],
  ['NO_COLOR', 'Not empty: "top" uses no colours.'],
  ['UV_THREADPOOL_SIZE', 'Threads for requests that must wait for the storage; 16 when not set.'],
  ['XDG_RUNTIME_DIR', 'Where an ordinary user has the folder blockfuse of running servers.'],
];

const FILES: readonly (readonly [string, string])[] = [
  ['/run/blockfuse', 'The servers of root: control sockets, what is mounted, and logs.'],
  ['$XDG_RUNTIME_DIR/blockfuse', 'The same for an ordinary user.'],
  ['/etc/fuse.conf', 'The line user_allow_other permits --allow-other to ordinary users.'],
];

const SIGNALS: readonly (readonly [string, string])[] = [
  ['SIGTERM, SIGINT', 'End a server: it unmounts, flushes and closes the image. A mount in use is detached.'],
  [
    'SIGHUP',
    'Does not end a server: the terminal that started it may close. A log file is opened anew: logrotate may have renamed it.',
  ],
  ['SIGUSR1', 'A command that takes long prints a line that tells how far it is.'],
];

export function programPage(): string[] {
  return [
    ...section('SYNOPSIS', [
      `${bold('blockfuse')} ${italic('command')} [${italic('options')}] [${italic('argument')} ...]`,
      '.br',
      `${bold('blockfuse')} ${italic('image')} ${italic('mountpoint')} [${bold('-o')} ${italic('options')}]`,
    ]),
    ...section('DESCRIPTION', description()),
    ...section(
      'COMMANDS',
      COMMANDS.flatMap(({ name, summary }) =>
        entry(`${bold(`blockfuse-${name}`)}(1)`, escape(`${summary}.`)),
      ),
    ),
    ...section(
      'OPTIONS',
      [HELP_OPTION, VERSION_OPTION].flatMap((option) => optionEntry(fromFlags(option))),
    ),
    ...section('EXIT STATUS', list(EXIT_CODES)),
    ...section('ENVIRONMENT', list(ENVIRONMENT)),
    ...section('FILES', list(FILES)),
    ...section('SIGNALS', list(SIGNALS)),
    ...section('EXAMPLES', [
      ...paragraph(escape('Mount an image, use the disk, and end the mount:')),
      ...[
        'blockfuse mount disk.qcow2 /mnt/disk',
        'fdisk -l /mnt/disk/disk.raw',
        'blockfuse unmount /mnt/disk',
      ].flatMap(example),
    ]),
    ...seeAlso([
      ...COMMANDS.map(({ name }) => `blockfuse-${name}(1)`),
      'blockfuse-drivers(7)',
      'mount.fuse.blockfuse(8)',
      'fusermount3(1)',
      'qemu-img(1)',
    ]),
  ];
}

function description(): string[] {
  return [
    ...paragraph(
      escape(
        'blockfuse shows the disk inside a virtual disk image as a flat file, through FUSE: read and write, without root, ' +
          'a virtual machine or a loop device. The formats are listed by "blockfuse formats" and in blockfuse-drivers(7).',
      ),
    ),
    ...paragraph(
      escape(
        'Each mount is served by a process of its own, which stays until the mount ends. The second form is how ' +
          'mount(8) calls it; it is the same as "blockfuse mount".',
      ),
    ),
  ];
}

function list(rows: readonly (readonly [string, string])[]): string[] {
  return rows.flatMap(([term, text]) => entry(bold(term), escape(text)));
}
