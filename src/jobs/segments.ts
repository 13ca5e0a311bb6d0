import type { Child } from '../block/child.ts';
import { BlockStatus } from '../block/extent.ts';
import type { Lost } from './salvage.ts';

/** Where the tables can't be read (`lost`): whether there is data is left to reading it, in pieces of so many bytes. */
const UNKNOWN = { zero: false, allocated: true, compressed: false, depth: 0 };
const UNKNOWN_BYTES = 65536;

/** A run of a disk that is the same kind throughout, as `status` tells it. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
  readonly allocated: boolean;
  readonly compressed: boolean;
  readonly depth: number;
}

/** The disk from start to end in runs of at most `max` bytes. Tables are loaded as it goes; memory does not grow. */
export async function* segments(
  disk: Child,
  end: number,
  max: number,
  control: JobControl = {},
): AsyncGenerator<Segment, void, undefined> {
  const status = new BlockStatus();
  for (let offset = 0; offset < end; offset += status.length) {
    const wanted = Math.min(max, end - offset);
    await disk.status(offset, wanted, status).catch((error: unknown) => {
      if (control.lost === undefined) throw error;
      Object.assign(status, UNKNOWN, { length: Math.min(wanted, UNKNOWN_BYTES) });
    });
    if (status.length === 0) return;
    const { length, zero, allocated, compressed, depth } = status;
    yield { offset, length, zero, allocated, compressed, depth };
  }
}

export interface JobControl {
  /** Bytes done of bytes in all, called often: whoever shows it slows it down. */
  progress?(done: number, total: number): void;
  readonly signal?: AbortSignal | undefined;
  /** What can't be read is told here and copied as zeroes; without it that is the end of the job. */
  readonly lost?: Lost | undefined;
}

/**
 * Runs `work` on every item, `parallel` at a time, in order of start. The first error ends it, once the others under way
 * have ended.
 */
export async function inParallel<T>(
  items: AsyncIterator<T, void, undefined>,
  parallel: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let failed = false;
  const worker = async (): Promise<void> => {
    while (!failed) {
      const next = await items.next();
      if (next.done === true) return;
      await work(next.value).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  const results = await Promise.allSettled(Array.from({ length: parallel }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
