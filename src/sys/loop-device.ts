/** Loop devices through losetup(8) of util-linux: its ioctls, device search and partition scan are not ours to repeat. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { BlockError } from '../block/errors.ts';

const execute = promisify(execFile);

export interface LoopOptions {
  readonly readOnly: boolean;
  /** Bytes of a logical block. */
  readonly sectorSize: number;
}

/** Attaches a file to a free loop device (direct I/O, partitions scanned) and resolves to its path. */
export async function attachLoop(file: string, options: LoopOptions): Promise<string> {
  if (!existsSync('/dev/loop-control')) throw noLoopDevices(file, 'there is no /dev/loop-control');
  const flags = options.readOnly ? ['--read-only'] : [];
  const sector = ['--sector-size', String(options.sectorSize)];
  const wanted = ['--find', '--show', '--direct-io=on', '--partscan', ...sector, ...flags, file];
  const { stdout } = await execute('losetup', wanted).catch((error: unknown) => {
    throw noLoopDevices(file, reasonOf(error));
  });
  return stdout.trim();
}

/** Resolves when nobody has the device open any more: it is free again, or somebody else's already. */
export async function detachLoop(device: string): Promise<void> {
  const file = loopFile(device);
  await execute('losetup', ['--detach', device]).catch((error: unknown) => {
    throw new BlockError('EIO', `Cannot detach "${device}": ${reasonOf(error)}`);
  });
  for (let tries = 0; file !== undefined && loopFile(device) === file; tries += 1) {
    if (tries === 250) {
      throw new BlockError(
        'EBUSY',
        `Cannot detach "${device}": somebody still uses it (a file system mounted elsewhere, in a container too, LVM, RAID); when that has ended, detach again`,
      );
    }
    await delay(20);
  }
}

/** The file behind a loop device; undefined when it is free. */
export function loopFile(device: string): string | undefined {
  const path = backingFile(device);
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

export async function mountFileSystem(device: string, folder: string, readOnly: boolean): Promise<void> {
  await execute('mount', [...(readOnly ? ['-o', 'ro'] : []), device, folder]).catch((error: unknown) => {
    throw new BlockError('EIO', `Cannot mount "${device}" at "${folder}": ${reasonOf(error)}`);
  });
}

export async function unmountFileSystem(folder: string): Promise<void> {
  await execute('umount', [folder]).catch((error: unknown) => {
    throw new BlockError('EBUSY', `Cannot unmount "${folder}": ${reasonOf(error)}`);
  });
}

function noLoopDevices(file: string, why: string): BlockError {
  const text = `Cannot attach "${file}" to a loop device: ${why}. Where loop devices can't exist (containers), mount the image with "blockfuse mount" and use the files of its partitions instead`;
  return new BlockError('ENODEV', text, { path: file });
}

const backingFile = (device: string): string => `/sys/block/${basename(device)}/loop/backing_file`;

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ENOENT')
    return 'losetup, mount or umount is not installed (Debian: mount)';
  const text = 'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim() : '';
  return text === '' ? error.message : text.replaceAll(/^(losetup|u?mount): /gm, '').replaceAll('\n', '; ');
}
