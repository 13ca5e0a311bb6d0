import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { FilterDriver } from '../../src/block/driver.ts';
import type { Limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';

/**
 * Writes arrive compressed in the format below: in whole allocation units, which the node makes of what it is asked for.
 * The units of one request are compressed side by side. A format without compression gets them plain.
 */
class Compress implements FilterDriver {
  readonly family = 'filter';
  readonly limits: Partial<Limits>;
  private readonly file: Child;
  private readonly unit: number;

  constructor(file: Child) {
    this.file = file;
    this.unit = file.node.limits.allocationUnit;
    this.limits = { requestAlignment: this.unit };
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    const inside = Math.min(bytes.length, this.file.size - offset);
    const units: Promise<void>[] = [];
    for (let at = 0; at < inside; at += this.unit) {
      const piece = bytes.subarray(at, Math.min(inside, at + this.unit));
      units.push(this.file.writeCompressed(piece, offset + at));
    }
    const outcomes = await Promise.allSettled(units);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    return this.file.writeZeroes(offset, length, flags);
  }
}

export const compressDriver = defineDriver({
  name: 'compress',
  kind: 'filter',
  summary: 'Stores what is written through it compressed',
  options: {},
  children: {
    file: {
      roles: Role.filtered | Role.primary,
      required: true,
      summary: 'An image whose format has compression',
    },
  },
  open: (context) => Promise.resolve(new Compress(context.child('file'))),
});
