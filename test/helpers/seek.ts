import koffi from 'koffi';

const WHENCE = { data: 3, hole: 4 } as const;

const lseekCall = koffi.load(null).func('int64_t lseek(int fd, int64_t offset, int whence)') as unknown as {
  async: (
    fd: number,
    offset: number,
    whence: number,
    done: (error: Error | null, result: number) => void,
  ) => void;
};

/** lseek(2) with SEEK_DATA or SEEK_HOLE, off the main thread; undefined where there is no more (ENXIO). */
export function seek(fd: number, what: keyof typeof WHENCE, offset: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    lseekCall.async(fd, offset, WHENCE[what], (error, result) => {
      const errno = koffi.errno();
      if (error !== null) reject(error);
      else if (result >= 0) resolve(result);
      else if (errno === koffi.os.errno['ENXIO']) resolve(undefined);
      else reject(new Error(`lseek to ${what} from ${offset}: errno ${errno}`));
    });
  });
}
