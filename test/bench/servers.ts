import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { program } from '../helpers/program.ts';
import { tool } from '../helpers/tools.ts';
import { onCleanup } from './cleanup.ts';
import { SECRET } from './images.ts';
import { output, startServer } from './process.ts';

/** A disk that can be measured: a file, and who serves it. */
export interface Served {
  readonly file: string;
  /** Milliseconds from the start of the command until the disk could be read. */
  readonly readyMs: number;
  /** Undefined for a plain file. */
  readonly pid: number | undefined;
  end(): Promise<void>;
}

/** @param keyFile the passphrase of an encrypted image */
export type Starter = (image: string, format: string, keyFile?: string) => Promise<Served>;

/** `blockfuse mount`, with the image itself as mount point, as the other server has it. */
export const startBlockfuse: Starter = async (image, format, keyFile) => {
  const mountpoint = await newMountpoint(image);
  const start = performance.now();
  const key = keyFile === undefined ? [] : ['--key-file', keyFile];
  const mount = [program(), 'mount', '--json', ...key, '--format', format, image, mountpoint];
  const end = onCleanup(async () => {
    if (isMounted(mountpoint)) await output(process.execPath, [program(), 'unmount', mountpoint]);
  });
  const text = await output(process.execPath, mount);
  const readyMs = performance.now() - start;
  const { pid } = JSON.parse(text) as { pid: number };
  return { file: mountpoint, readyMs, pid, end };
};

/** QEMU's storage daemon with a FUSE export. */
export const startQemu: Starter = async (image, format, keyFile) => {
  const mountpoint = await newMountpoint(image);
  const start = performance.now();
  const secret = keyFile === undefined ? [] : SECRET;
  const key = keyFile === undefined ? '' : ',encrypt.format=luks,encrypt.key-secret=key';
  const blockdev =
    format === 'raw'
      ? ['--blockdev', `driver=file,filename=${image},node-name=q,discard=unmap`]
      : [
          '--blockdev',
          `driver=file,filename=${image},node-name=f,discard=unmap`,
          '--blockdev',
          `driver=${format},file=f,node-name=q,discard=unmap${key}`,
        ];
  const share = `type=fuse,id=e,node-name=q,mountpoint=${mountpoint},writable=on`;
  const { child, end } = startServer(tool('qemu-storage-daemon'), [
    ...secret,
    ...blockdev,
    '--export',
    share,
  ]);
  while (!isMounted(mountpoint)) {
    if (child.exitCode !== null) throw new Error(`qemu-storage-daemon ended: exit code ${child.exitCode}`);
    await delay(2);
  }
  return { file: mountpoint, readyMs: performance.now() - start, pid: child.pid, end };
};

/** The host's file as it is. */
export const startNothing: Starter = (image) =>
  Promise.resolve({ file: image, readyMs: 0, pid: undefined, end: () => Promise.resolve() });

export function isMounted(mountpoint: string): boolean {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === mountpoint);
}

let mountpoints = 0;

async function newMountpoint(image: string): Promise<string> {
  mountpoints += 1;
  const path = `${image}.mnt${mountpoints}`;
  await writeFile(path, '');
  return path;
}
