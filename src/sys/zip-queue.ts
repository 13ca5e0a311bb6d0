/**
 * Blocks of zlib and Zstandard that wait to be unpacked:
 *
 *     jobs of a turn ->  thread pool, two at a time for each core: one waits there for the end of another
 *                   \->  this thread, a small one each turn: it would have nothing else to do, and a hop costs as much
 */
import type { Zip, ZipLibrary } from './zip-library.ts';

/** What a job may unpack to for this thread to do it. */
const SMALL = 64 * 1024;

interface Job {
  readonly packed: Buffer;
  readonly zip: Zip;
  readonly out: Buffer;
  resolve(): void;
  reject(error: unknown): void;
}

export class ZipQueue {
  private readonly library: ZipLibrary;
  private readonly most: number;
  private readonly waiting: Job[] = [];
  private running = 0;
  private gathering = false;

  /** @param most jobs in the thread pool at a time */
  constructor(library: ZipLibrary, most: number) {
    this.library = library;
    this.most = most;
  }

  /** Contract: UnpackService.unpackInto. */
  unpackInto(packed: Buffer, zip: Zip, out: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ packed, zip, out, resolve, reject });
      this.gather();
    });
  }

  /** Waits for what else comes in this turn. */
  private gather(): void {
    if (this.gathering) return;
    this.gathering = true;
    setImmediate(() => {
      this.gathering = false;
      this.turn();
    });
  }

  private turn(): void {
    while (this.running < this.most && (this.waiting.length > 1 || !isSmall(this.waiting[0])))
      if (!this.startNext()) break;
    const [next] = this.waiting;
    if (next === undefined || !isSmall(next)) return;
    this.waiting.shift();
    this.doHere(next);
    if (this.waiting.length > 0) this.gather();
  }

  private startNext(): boolean {
    const job = this.waiting.shift();
    if (job === undefined) return false;
    this.running += 1;
    this.library
      .unpackInBackground(job.packed, job.zip, job.out)
      .finally(() => {
        this.running -= 1;
        if (this.waiting.length > 0) this.startNext();
      })
      .then(
        () => {
          job.resolve();
        },
        (error: unknown) => {
          job.reject(error);
        },
      );
    return true;
  }

  private doHere(job: Job): void {
    try {
      this.library.unpackNow(job.packed, job.zip, job.out);
      job.resolve();
    } catch (error) {
      job.reject(error);
    }
  }
}

const isSmall = (job: Job | undefined): boolean => job !== undefined && job.out.length <= SMALL;
