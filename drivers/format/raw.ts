import type { CreateContext, MappingDriver, OpenContext } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import type { Child } from '../../src/block/child.ts';
import type { Limits } from '../../src/block/limits.ts';
import { limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';
import type { OptionsOf } from '../../src/block/schema.ts';
import { choice, optional, size } from '../../src/block/schema.ts';

const OPTIONS = {
  offset: optional(size('First byte of the file that belongs to the disk'), 0),
  size: optional(size('Bytes of the disk; the rest of the file when left out')),
};

/** A disk that lies in a file byte for byte, the whole of it or a window of it. */
class RawImage implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = true;
  readonly limits: Limits;
  private readonly file: Child;
  private readonly offset: number;
  private window: number | undefined;

  constructor(file: Child, offset: number, window: number | undefined) {
    this.file = file;
    this.offset = offset;
    this.window = window;
    this.limits = limits({ sizeUnit: offset % file.sizeUnit === 0 ? file.sizeUnit : 1 });
  }

  get size(): number {
    return this.window ?? Math.max(0, this.file.size - this.offset);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return out.setData(this.file, this.offset + offset, Math.min(max, this.size - offset), true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  async resize(bytes: number, shrink: boolean): Promise<void> {
    if (this.window !== undefined) {
      throw new BlockError('ENOTSUP', 'Cannot resize the disk: it is a window of a file (option "size")');
    }
    await this.file.resize(this.offset + bytes, shrink);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function open(context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<MappingDriver> {
  const file = context.child('file');
  const { offset, size: window } = context.options;
  const rest = file.size - offset;
  if (rest < 0 || (window !== undefined && window > rest)) {
    const wanted = window === undefined ? `offset ${offset}` : `offset ${offset} and size ${window}`;
    throw new BlockError(
      'EINVAL',
      `Cannot open "${context.subject}": it has ${file.size} bytes, too few for ${wanted}`,
    );
  }
  return Promise.resolve(new RawImage(file, offset, window));
}

const CREATE_OPTIONS = {
  preallocation: optional(
    choice(
      ['off', 'falloc', 'full'],
      'Space of the file: as it is written, reserved, or written with zeroes',
    ),
    'off',
  ),
};

async function create(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file, size: bytes, options } = context;
  await file.resize(bytes, true);
  if (options['preallocation'] === 'falloc') await file.writeZeroes(0, bytes);
  if (options['preallocation'] !== 'full') return;
  const zeroes = Buffer.alloc(1024 * 1024);
  for (let at = 0; at < bytes; at += zeroes.length) {
    await file.write(zeroes.subarray(0, Math.min(zeroes.length, bytes - at)), at);
  }
}

export const rawDriver = defineDriver({
  name: 'raw',
  kind: 'format',
  summary: 'A flat disk image, or a window of one',
  options: OPTIONS,
  children: {
    file: { roles: Role.data | Role.primary, required: true, summary: 'The file that holds the disk' },
  },
  open,
  createOptions: CREATE_OPTIONS,
  create,
  measure: ({ size: bytes }) => Promise.resolve({ required: bytes, fullyAllocated: bytes }),
  childPermissions: (_name, _roles, parent) => parent,
});
