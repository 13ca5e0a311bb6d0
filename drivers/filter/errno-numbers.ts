import type { ErrnoCode } from '../../src/block/errors.ts';

/** Linux's numbers of the errors that a test may want to see. */
const NAMES: Readonly<Record<number, ErrnoCode>> = {
  1: 'EPERM',
  2: 'ENOENT',
  4: 'EINTR',
  5: 'EIO',
  6: 'ENXIO',
  9: 'EBADF',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  16: 'EBUSY',
  19: 'ENODEV',
  22: 'EINVAL',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  32: 'EPIPE',
  61: 'ENODATA',
  71: 'EPROTO',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  104: 'ECONNRESET',
  108: 'ESHUTDOWN',
  110: 'ETIMEDOUT',
  116: 'ESTALE',
  122: 'EDQUOT',
  123: 'ENOMEDIUM',
  126: 'ENOKEY',
  125: 'ECANCELED',
};

/** EIO for a number that has no name here. */
export function errnoName(number: number): ErrnoCode {
  return NAMES[number] ?? 'EIO';
}
