/** What the system says about a mount point and the file system under an image. */
import { closeSync, existsSync, fstatSync, open, readFileSync } from 'node:fs';
import { readFile, realpath, stat, statfs, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { BlockError, errnoOf } from '../block/errors.ts';

export interface MountPoint {
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly kind: 'directory' | 'file';
}

/** Looks at a mount point before anything is mounted there. In the thread pool: this process may serve what lies there. */
export async function inspectMountPoint(path: string): Promise<MountPoint> {
  const found = await look(path).catch((error: unknown) => {
    throw new BlockError(errnoOf(error), `Cannot mount at "${path}": ${describe(error)}`, { path }, error);
  });
  if (found !== undefined) return found;
  const text = `Cannot mount at "${path}": it is neither a directory nor a regular file`;
  throw new BlockError('ENOTDIR', text, { path });
}

async function look(path: string): Promise<MountPoint | undefined> {
  const real = await realpath(path);
  const found = await stat(real);
  if (found.isDirectory()) return { path: real, kind: 'directory' };
  return found.isFile() ? { path: real, kind: 'file' } : undefined;
}

function describe(error: unknown): string {
  const code = errnoOf(error);
  if (code === 'ENOENT') return 'there is no such directory or file';
  if (code === 'EACCES') return 'permission denied';
  if (String(code) === 'ENOTCONN')
    return 'the server of an earlier mount died there, unmount that first (umount)';
  if (code === 'ENOTDIR') return 'a part of the path is not a directory';
  return error instanceof Error ? error.message : String(error);
}

/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  /** `major:minor` */
  readonly device: string;
  readonly target: string;
  readonly type: string;
  readonly source: string;
}

/** Every mount that this process sees, later ones on top of earlier ones. Asks no mounted file system anything. */
export function listMounts(): MountEntry[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.flatMap((line) => {
    const [front = '', back = ''] = line.split(' - ');
    const [, , device, , target] = front.split(' ');
    const [type, source] = back.split(' ');
    if (device === undefined || target === undefined || type === undefined) return [];
    return [{ device, target: unescape(target), type, source: unescape(source ?? '') }];
  });
}

/** Space, tab, newline and backslash stand there as three octal digits. */
const unescape = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** Whether the kernel still has the file system of a mount: also one that is detached and in use. */
export function backsMount(device: string): boolean {
  return existsSync(`/sys/class/bdi/${device}`);
}

/** KiB that the kernel reads ahead of sequential buffered reads. Needs root; false when it may not. */
export async function setReadAhead(device: string, kibibytes: number): Promise<boolean> {
  const file = `/sys/class/bdi/${device}/read_ahead_kb`;
  try {
    if (Number(await readFile(file, 'utf8')) >= kibibytes) return true;
    await writeFile(file, String(kibibytes));
    return true;
  } catch {
    return false;
  }
}

export interface Usage {
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  readonly blockSize: number;
}

/** A place in a file system, held so that a mount over its name does not hide it. */
export class PathHandle {
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Needs no permission on the file itself. */
  static async open(path: string): Promise<PathHandle> {
    try {
      return new PathHandle(await promisify(open)(path, O_PATH));
    } catch (error) {
      throw new BlockError(errnoOf(error), `Cannot open "${path}": ${describe(error)}`, { path }, error);
    }
  }

  async usage(): Promise<Usage> {
    const stat = await statfs(`/proc/self/fd/${this.fd}`);
    return {
      blocks: stat.blocks,
      freeBlocks: stat.bfree,
      availableBlocks: stat.bavail,
      files: stat.files,
      freeFiles: stat.ffree,
      blockSize: stat.bsize,
    };
  }

  close(): void {
    closeSync(this.fd);
  }
}

const O_PATH = 0o10000000;

/** When the content of an open file was changed last. */
export function modificationTime(fd: number): { sec: number; nsec: number } {
  const { mtimeNs } = fstatSync(fd, { bigint: true });
  return { sec: Number(mtimeNs / 1_000_000_000n), nsec: Number(mtimeNs % 1_000_000_000n) };
}
