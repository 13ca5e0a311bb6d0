import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { FilterDriver, OpenContext } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Role } from '../../src/block/permissions.ts';
import type { OptionsOf } from '../../src/block/schema.ts';
import { choice, integer, optional, size } from '../../src/block/schema.ts';
import { errnoName } from './errno-numbers.ts';

const KINDS = ['all', 'read', 'write', 'write-zeroes', 'discard', 'flush'] as const;
type Kind = (typeof KINDS)[number];

const OPTIONS = {
  iotype: optional(choice(KINDS, 'Kind of requests that fail'), 'all'),
  errno: optional(integer('Number of the error that they fail with', 1, 4095), 5),
  from: optional(size('First byte of the range where requests fail'), 0),
  length: optional(size('Bytes of that range; to the end when left out')),
};
type Options = OptionsOf<typeof OPTIONS>;

/** Requests that touch a range fail, all others pass. */
class ErrorFilter implements FilterDriver {
  readonly family = 'filter';
  private readonly file: Child;
  private readonly options: Options;
  private readonly node: string;

  constructor(file: Child, options: Options, node: string) {
    this.file = file;
    this.options = options;
    this.node = node;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return !this.fails('read', offset, length) && this.file.tryRead(bytes, at, length, offset);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return !this.fails('write', offset, length) && this.file.tryWrite(bytes, at, length, offset);
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    this.refuse('read', offset, bytes.length);
    await this.file.read(bytes, offset);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    this.refuse('write', offset, bytes.length);
    await this.file.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    this.refuse('write-zeroes', offset, length);
    await this.file.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.refuse('discard', offset, length);
    await this.file.discard(offset, length);
  }

  async flush(): Promise<void> {
    this.refuse('flush', this.options.from, 1);
    await this.file.flush();
  }

  private fails(kind: Kind, offset: number, length: number): boolean {
    const { iotype, from, length: range = Infinity } = this.options;
    return (iotype === 'all' || iotype === kind) && offset < from + range && from < offset + length;
  }

  private refuse(kind: Kind, offset: number, length: number): void {
    if (!this.fails(kind, offset, length)) return;
    const text = `Cannot ${kind} "${this.node}": failed, as its options say`;
    throw new BlockError(errnoName(this.options.errno), text);
  }
}

const open = (context: OpenContext<Options>): Promise<FilterDriver> =>
  Promise.resolve(new ErrorFilter(context.child('file'), context.options, context.nodeName));

export const errorDriver = defineDriver({
  name: 'error',
  kind: 'filter',
  summary: 'Makes requests fail, for tests',
  options: OPTIONS,
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The node that seems to fail' },
  },
  open,
});
