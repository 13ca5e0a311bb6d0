/** The C library of this very process: the one place that loads it. Each file of src/sys declares the calls it needs. */
import koffi from 'koffi';
import type { ErrnoCode } from '../block/errors.ts';
import { BlockError } from '../block/errors.ts';
import { describeErrno } from './file-error.ts';

export const libc = koffi.load(null);

/** errno of the last call on this thread: read it at once, in the same function, before any other call or await. */
export const lastErrno = (): number => koffi.errno();

const NAMES = new Map<number, ErrnoCode>();
for (const [name, number] of Object.entries(koffi.os.errno)) {
  if (!NAMES.has(number)) NAMES.set(number, (name === 'EOPNOTSUPP' ? 'ENOTSUP' : name) as ErrnoCode);
}

/** The errno name of a number; EIO for one that has none. */
export function errnoName(number: number): ErrnoCode {
  return NAMES.get(number) ?? 'EIO';
}

/** The errno number of a name; that of EIO for one the system does not have. */
export function errnoNumber(name: ErrnoCode): number {
  const numbers: Readonly<Record<string, number>> = koffi.os.errno;
  return numbers[name] ?? numbers[name === 'ENOTSUP' ? 'EOPNOTSUPP' : 'EIO'] ?? 5;
}

/** The error of a system call that just failed. `action` is the start of the message: `Cannot open "a.img"`. */
export function systemError(action: string, number: number = lastErrno()): BlockError {
  const code = errnoName(number);
  return new BlockError(code, `${action}: ${describeErrno(code)}`);
}

/** Address of a buffer's first byte, exact as a number (user addresses are below 2^47). The buffer must be kept alive. */
export function addressOf(bytes: Buffer): number {
  return Number(koffi.address(bytes));
}
