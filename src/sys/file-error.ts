/** Words for what the system refused. Apart from libc.ts: commands that only read files need no koffi. */
import type { ErrnoCode } from '../block/errors.ts';
import { BlockError, errnoOf } from '../block/errors.ts';

/** The error of a call of node:fs. `action` is the start of the message: `Cannot open "a.img"`. */
export function fileError(action: string, error: unknown): BlockError {
  const code = errnoOf(error);
  const message = error instanceof Error ? error.message : String(error);
  return new BlockError(code, `${action}: ${DESCRIPTIONS[code] ?? message}`, {}, error);
}

/** What an errno means in words; its name when there are none. */
export const describeErrno = (code: ErrnoCode): string => DESCRIPTIONS[code] ?? code;

const DESCRIPTIONS: Readonly<Partial<Record<ErrnoCode, string>>> = {
  EPERM: 'operation not permitted',
  ENOENT: 'no such file or directory',
  EIO: 'input/output error',
  ENXIO: 'no such device',
  EACCES: 'permission denied',
  EBUSY: 'device or resource busy',
  EEXIST: 'file exists',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  EINVAL: 'invalid argument',
  EFBIG: 'file too large',
  ENOSPC: 'no space left on device',
  EROFS: 'read-only file system',
  ENOTSUP: 'not supported',
  EDQUOT: 'disk quota exceeded',
  ELOOP: 'too many symbolic links',
};
