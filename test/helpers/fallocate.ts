import koffi from 'koffi';

const MODES = { zeroRange: 0x10 | 0x01, punchHole: 0x02 | 0x01, extend: 0 } as const;
export type FallocateMode = keyof typeof MODES;

type Fallocate = (fd: number, mode: number, offset: number, length: number) => number;
const fallocateCall = koffi
  .load(null)
  .func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');

/** fallocate(2) off the main thread, so that several are under way at once. Keeps the size but for `extend`. */
export function fallocate(fd: number, mode: FallocateMode, offset: number, length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = fallocateCall as unknown as { async: (...args: [...Parameters<Fallocate>, Done]) => void };
    call.async(fd, MODES[mode], offset, length, (error, result) => {
      if (error === null && result === 0) resolve();
      else reject(error ?? new FallocateError(koffi.errno(), mode));
    });
  });
}

type Done = (error: Error | null, result: number) => void;

class FallocateError extends Error {
  override readonly name = 'FallocateError';
  readonly code: string;

  constructor(errno: number, mode: FallocateMode) {
    const code =
      Object.entries(koffi.os.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
    super(`fallocate ${mode}: ${code}`);
    this.code = code;
  }
}
