import type { Driver } from './driver.ts';
import { BlockError } from './errors.ts';
import type { NodeIo } from './node-io.ts';
import { PROBED_HEAD } from './probe.ts';

/** All that a format may be known by: some magics follow text of any length. */
export const GUARDED_BYTES = PROBED_HEAD;

/**
 * For a disk that is raw only because nothing else was recognised: a guest must not turn it into an image of another
 * format by what it writes there, or the next probing would read whatever files that image names.
 */
export class HeadGuard {
  private readonly drivers: readonly Driver[];
  private readonly filename: string;

  constructor(drivers: readonly Driver[], filename: string) {
    this.drivers = drivers;
    this.filename = filename;
  }

  /** Refuses a write that would do that. Called for writes that begin in the first GUARDED_BYTES. */
  async check(io: NodeIo, bytes: Buffer, offset: number): Promise<void> {
    const head = Buffer.alloc(Math.min(io.size, Math.max(GUARDED_BYTES, io.limits.requestAlignment)));
    await io.read(head, 0);
    bytes.copy(head, offset);
    const nothing = Buffer.alloc(0);
    for (const driver of this.drivers) {
      if ((driver.probe?.(head, '', nothing, io.size) ?? 0) === 0) continue;
      const text = `it would turn this raw disk into a ${driver.name} image; say --format raw if that is meant`;
      throw new BlockError('EPERM', `Cannot write to the start of "${this.filename}": ${text}`);
    }
  }
}
