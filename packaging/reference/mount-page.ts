/** mount.fuse.blockfuse(8): what mount(8) and fstab may say. */
import { mountCommand } from '../../src/cli/mount.ts';
import { optionEntry } from './command-page.ts';
import { shownOptions } from './flags.ts';
import { bold, entry, escape, example, italic, paragraph, section, seeAlso } from './roff.ts';
import type { PageHead } from './roff.ts';

export const MOUNT_HEAD: PageHead = {
  name: 'mount.fuse.blockfuse',
  section: 8,
  summary: 'mount disk images with mount(8) and from fstab',
};

/** Words that are not options of `blockfuse mount`. */
const WORDS: readonly (readonly [string, string])[] = [
  ['ro, rw', 'Read-only, or writable (the default).'],
  ['allow_other', 'The same as allow-other=on.'],
  [
    'suid, dev, noexec, sync, dirsync, noatime',
    'As in mount(8), and their opposites. nosuid and nodev are the default.',
  ],
  ['max_read=bytes, fsname=text, subtype=text', 'As in fuse(8).'],
  [
    'defaults, auto, noauto, user, users, owner, group, nofail, _netdev, comment=text, x-*',
    'Meant for mount(8), fstab and systemd; accepted and left to them.',
  ],
];

export function mountPage(): string[] {
  const own = shownOptions(mountCommand).filter(({ name }) => name !== '' && name !== 'help');
  return [
    ...section('SYNOPSIS', [
      `${bold('mount -t fuse.blockfuse')} ${italic('image')} ${italic('mountpoint')} [${bold('-o')} ${italic('options')}]`,
    ]),
    ...section('DESCRIPTION', [
      ...paragraph(
        escape(
          'mount(8) hands file systems of the type fuse.blockfuse to this program, which mounts the disk inside the image as ' +
            'blockfuse-mount(1) does, and returns when it can be read. umount(8) ends the mount; "blockfuse unmount" does, and ' +
            'waits until the image is final.',
        ),
      ),
    ]),
    ...section('OPTIONS', [
      ...paragraph(escape('Options of mount(8) and of FUSE:')),
      ...WORDS.flatMap(([words, text]) => entry(bold(words), escape(text))),
      ...paragraph(
        escape(
          'Options of "blockfuse mount" by their long names, without dashes; in them "_" may stand for "-":',
        ),
      ),
      ...own.flatMap((option) =>
        optionEntry({
          ...option,
          flags: `${option.name}${option.value === undefined ? '' : `=<${option.value}>`}`,
        }),
      ),
    ]),
    ...section('EXAMPLES', [
      ...paragraph(escape('A line of /etc/fstab:')),
      ...example('/images/disk.qcow2  /mnt/disk  fuse.blockfuse  ro,format=qcow2,nofail  0  0'),
    ]),
    ...seeAlso(['blockfuse-mount(1)', 'mount(8)', 'fstab(5)']),
  ];
}
