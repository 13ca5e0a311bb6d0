import { defineDriver } from '../../src/block/driver.ts';
import type { PermissionChange, RequestDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { limits } from '../../src/block/limits.ts';
import { ALL_PERMISSIONS } from '../../src/block/permissions.ts';
import type { PermissionPair } from '../../src/block/permissions.ts';
import { integer, optional, size } from '../../src/block/schema.ts';
import { Random } from '../helpers/random.ts';

/** A disk in memory that takes locks outside, as a file does, and is refused them now and then. */
export class LockingDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  readonly size: number;
  held: PermissionPair = { used: 0, shared: ALL_PERMISSIONS };
  /** Changes neither committed nor aborted. */
  pending = 0;
  private readonly bytes: Buffer;
  private readonly random: Random;

  constructor(options: { size: number; seed: number }) {
    this.size = options.size;
    this.bytes = Buffer.alloc(options.size);
    this.random = new Random(options.seed);
  }

  setPermissions(wanted: PermissionPair): PermissionChange {
    const more = (wanted.used & ~this.held.used) !== 0 || (this.held.shared & ~wanted.shared) !== 0;
    if (more && this.random.chance(0.2))
      throw new BlockError('EBUSY', 'Cannot lock "locking": another program has it');
    this.pending += 1;
    return {
      commit: () => {
        this.pending -= 1;
        this.held = wanted;
      },
      abort: () => {
        this.pending -= 1;
      },
    };
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    this.bytes.copy(bytes, 0, offset, offset + bytes.length);
    return Promise.resolve();
  }

  write(bytes: Buffer, offset: number): Promise<void> {
    bytes.copy(this.bytes, offset);
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    if (this.pending !== 0 || this.held.used !== 0) throw new Error('closed with locks held');
    return Promise.resolve();
  }
}

export const lockingDriver = defineDriver({
  name: 'locking',
  kind: 'protocol',
  summary: 'Takes locks',
  options: { size: size('Size of the disk'), seed: optional(integer('Seed of its refusals'), 1) },
  children: {},
  open: (context) => Promise.resolve(new LockingDisk(context.options)),
});
