/** Opening host files, and what a descriptor can be asked for. Every failure is a BlockError that says what to do where that is known. */
import fs from 'node:fs';
import { promisify } from 'node:util';
import { BlockError, errnoOf } from '../block/errors.ts';
import { fdSetOf, firstOfFdSet, openFdSet, openOrDuplicate } from './fdsets.ts';
import { fileError } from './file-error.ts';

const open = promisify(fs.open);
const close = promisify(fs.close);
const datasync = promisify(fs.fdatasync);
const truncate = promisify(fs.ftruncate);

/** `other`: a directory, FIFO, socket or character device; nothing that can hold a disk. */
export type FileKind = 'regular' | 'block' | 'other' | 'missing';

/** What lies at a path, links followed. `missing` also where it can't be looked at; opening it tells why. */
export function fileKind(path: string): FileKind {
  const set = fdSetOf(path);
  if (set !== undefined) {
    const fd = firstOfFdSet(set);
    return fd === undefined ? 'missing' : kindOf(fs.fstatSync(fd));
  }
  const stats = fs.statSync(path, { throwIfNoEntry: false });
  return stats === undefined ? 'missing' : kindOf(stats);
}

/** Whether a unix socket lies at a path. */
export function isSocket(path: string): boolean {
  return fs.statSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

function kindOf(stats: fs.Stats): FileKind {
  if (stats.isFile()) return 'regular';
  return stats.isBlockDevice() ? 'block' : 'other';
}

/** A descriptor and the name that messages use for it. */
export interface OpenFile {
  readonly fd: number;
  readonly path: string;
}

export interface OpenMode {
  readonly writable: boolean;
  readonly direct: boolean;
}

/** Opens what must be of `kind`; resolves to the descriptor, which the caller closes with `closeFile`. */
export async function openFile(path: string, kind: 'regular' | 'block', mode: OpenMode): Promise<number> {
  const set = fdSetOf(path);
  if (set !== undefined) return openHanded(path, set, kind, mode);
  const stats = await promisify(fs.stat)(path).catch((error: unknown) => {
    throw openError(path, mode, error);
  });
  // Before opening: that of a FIFO would wait for its other end.
  requireKind(path, kind, stats);
  const access = mode.writable ? fs.constants.O_RDWR : fs.constants.O_RDONLY;
  const fd = await open(path, access | (mode.direct ? fs.constants.O_DIRECT : 0)).catch((error: unknown) => {
    throw openError(path, mode, error);
  });
  try {
    requireKind(path, kind, fs.fstatSync(fd));
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  return fd;
}

/** From a set of descriptors that were handed over. */
async function openHanded(
  path: string,
  set: number,
  kind: 'regular' | 'block',
  mode: OpenMode,
): Promise<number> {
  const fd = openFdSet(set, mode.writable);
  try {
    requireKind(path, kind, fs.fstatSync(fd));
    if (mode.direct)
      throw new BlockError(
        'ENOTSUP',
        `Cannot open "${path}": descriptors handed over are not switched to cache.direct`,
        { path },
      );
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  return fd;
}

/** A further descriptor of the file behind `fd`, even when its name means another file by now. */
export async function openAgain({ fd, path }: OpenFile, mode: OpenMode): Promise<number> {
  const set = fdSetOf(path);
  if (set !== undefined) return openFdSet(set, mode.writable);
  const access = mode.writable ? fs.constants.O_RDWR : fs.constants.O_RDONLY;
  return open(`/proc/self/fd/${fd}`, access | (mode.direct ? fs.constants.O_DIRECT : 0)).catch(
    (error: unknown) => {
      throw openError(path, mode, error);
    },
  );
}

/** Makes a new regular file of `size` zero bytes, without space of its own. Refuses to replace one unless told. */
export async function createFile(path: string, size: number, replace: boolean): Promise<void> {
  const { O_RDWR, O_CREAT, O_EXCL, O_TRUNC } = fs.constants;
  try {
    const fd = await open(path, O_RDWR | O_CREAT | (replace ? O_TRUNC : O_EXCL), 0o644);
    await truncate(fd, size).catch((error: unknown) => {
      fs.closeSync(fd);
      throw error;
    });
    await close(fd);
  } catch (error) {
    throw fileError(`Cannot create "${path}"`, error);
  }
}

/** Makes an empty file where there is none, at once: nothing comes between that and taking note of it. */
export function createEmptyFile(path: string): void {
  try {
    fs.closeSync(fs.openSync(path, 'wx', 0o644));
  } catch (error) {
    throw fileError(`Cannot create "${path}"`, error);
  }
}

/** Removes the file that a path leads to; one that was handed over as a descriptor is emptied. At once. */
export function discardFile(path: string): void {
  const set = fdSetOf(path);
  const fd = set === undefined ? undefined : firstOfFdSet(set);
  if (fd !== undefined) fs.ftruncateSync(fd, 0);
  else if (fs.existsSync(path)) fs.rmSync(fs.realpathSync(path));
}

export interface FileFacts {
  readonly size: number;
  /** Bytes of storage in use. */
  readonly allocated: number;
  readonly mtimeMs: number;
}

export function fileFacts(fd: number): FileFacts {
  const stats = fs.fstatSync(fd);
  return { size: stats.size, allocated: stats.blocks * 512, mtimeMs: stats.mtimeMs };
}

/** Resolves when data, and what is needed to find it, is on stable storage. */
export async function syncData({ fd, path }: OpenFile): Promise<void> {
  await datasync(fd).catch((error: unknown) => {
    throw fileError(`Cannot flush "${path}"`, error);
  });
}

export async function resizeFile({ fd, path }: OpenFile, size: number): Promise<void> {
  await truncate(fd, size).catch((error: unknown) => {
    throw fileError(`Cannot resize "${path}" to ${size} bytes`, error);
  });
}

export async function closeFile({ fd, path }: OpenFile): Promise<void> {
  await close(fd).catch((error: unknown) => {
    throw fileError(`Cannot close "${path}"`, error);
  });
}

/** A descriptor for locks alone, of the same file, that no reopening touches. */
export function openForLocks(fd: number): number {
  return openOrDuplicate(fd, fs.constants.O_RDONLY);
}

/** For a descriptor that nothing was written through. */
export function closeNow(fd: number): void {
  fs.closeSync(fd);
}

function requireKind(path: string, wanted: 'regular' | 'block', stats: fs.Stats): void {
  if (kindOf(stats) === wanted) return;
  if (wanted === 'block') {
    throw new BlockError('ENOTSUP', `Cannot open "${path}": it is not a block device, use the driver file`, {
      path,
    });
  }
  if (stats.isBlockDevice()) {
    throw new BlockError(
      'ENOTSUP',
      `Cannot open "${path}": it is a block device, use the driver host_device`,
      { path },
    );
  }
  const code = stats.isDirectory() ? 'EISDIR' : 'ENOTSUP';
  throw new BlockError(code, `Cannot open "${path}": it is ${whatIs(stats)}, a regular file was wanted`, {
    path,
  });
}

function whatIs(stats: fs.Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO';
  return stats.isCharacterDevice() ? 'a character device' : 'a socket';
}

function openError(path: string, mode: OpenMode, error: unknown): BlockError {
  const code = errnoOf(error);
  if (code === 'EINVAL' && mode.direct) {
    const text = `Cannot open "${path}": its file system does not take direct I/O, leave out cache.direct`;
    return new BlockError(code, text, { path }, error);
  }
  return fileError(`Cannot open "${path}"${mode.writable ? ' for writing' : ''}`, error);
}
