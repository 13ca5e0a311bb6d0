import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { FilterDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Role } from '../../src/block/permissions.ts';
import { RangeLocks } from '../../src/block/ranges.ts';

/** Does everything to two disks and fails a read where they differ: a raw one that is sure to be right, and one under test. */
class Blkverify implements FilterDriver {
  readonly family = 'filter';
  private readonly raw: Child;
  private readonly test: Child;
  private readonly node: string;
  /** A read between the two halves of a write would see a difference. */
  private readonly locks = new RangeLocks();

  constructor(raw: Child, test: Child, node: string) {
    this.raw = raw;
    this.test = test;
    this.node = node;
  }

  get size(): number {
    return this.test.size;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    const wanted = Buffer.allocUnsafe(bytes.length);
    await this.held(offset, bytes.length, false, () =>
      both(this.test.read(bytes, offset), this.raw.read(wanted, offset)),
    );
    if (bytes.equals(wanted)) return;
    const at = offset + bytes.findIndex((byte, index) => byte !== wanted[index]);
    const text = `Cannot read "${this.node}": "${this.test.node.name}" and "${this.raw.node.name}" differ at byte ${at}`;
    throw new BlockError('EIO', text, { offset: at });
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    await this.held(offset, bytes.length, true, () =>
      both(this.test.write(bytes, offset, flags), this.raw.write(bytes, offset, flags)),
    );
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.held(offset, length, true, () =>
      both(this.test.writeZeroes(offset, length, flags), this.raw.writeZeroes(offset, length, flags)),
    );
  }

  /** What a discarded range reads as is each disk's own business: that would be a difference. */
  discard(): Promise<void> {
    return Promise.resolve();
  }

  async flush(): Promise<void> {
    await both(this.test.flush(), this.raw.flush());
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    await both(this.test.resize(size, shrink), this.raw.resize(size, shrink));
  }

  private async held(
    offset: number,
    length: number,
    exclusive: boolean,
    run: () => Promise<void>,
  ): Promise<void> {
    const lock = await this.locks.acquire(offset, length, exclusive);
    try {
      await run();
    } finally {
      lock.release();
    }
  }
}

/** Both have ended when this does. */
async function both(first: Promise<void>, second: Promise<void>): Promise<void> {
  const outcomes = await Promise.allSettled([first, second]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

export const blkverifyDriver = defineDriver({
  name: 'blkverify',
  kind: 'filter',
  summary: 'Compares a disk under test with a raw one at every read',
  options: {},
  children: {
    raw: { roles: Role.filtered | Role.primary, required: true, summary: 'The disk that is right' },
    test: { roles: Role.data, required: true, summary: 'The disk under test' },
  },
  prefixes: ['blkverify:'],
  /** `blkverify:raw:test`. */
  parseFilename(filename) {
    const [, raw, test] = /^blkverify:([^:]+):([^]+)$/.exec(filename) ?? [];
    if (raw === undefined || test === undefined)
      throw new BlockError('EINVAL', `Cannot open "${filename}": must be blkverify:raw:test`);
    return { raw: { filename: raw }, test: { filename: test } };
  },
  open: (context) =>
    Promise.resolve(new Blkverify(context.child('raw'), context.child('test'), context.nodeName)),
});
