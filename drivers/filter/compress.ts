import type { Child } from '../../src/block/child.ts';
import { hasCompression } from '../../src/block/compression.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { FilterDriver, OpenContext } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';

/**
 * Writes arrive compressed in the format below: in whole allocation units, which the node makes of what it is asked for.
 * The units of one request are compressed side by side.
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

async function open(context: OpenContext<object>): Promise<FilterDriver> {
  const file = context.child('file');
  if (hasCompression(file.node)) return new Compress(file);
  const what = `driver "${file.node.driver.name}" of node "${file.node.name}" has no compressed writes`;
  throw new BlockError('ENOTSUP', `Cannot open node "${context.nodeName}": ${what}`);
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
  open,
});
