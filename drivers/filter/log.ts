import debug from 'debug';
import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { FilterDriver, OpenContext } from '../../src/block/driver.ts';
import { errnoOf } from '../../src/block/errors.ts';
import { Role } from '../../src/block/permissions.ts';
import type { OptionsOf } from '../../src/block/schema.ts';
import { optional, text } from '../../src/block/schema.ts';

const OPTIONS = { tag: optional(text('Word at the start of its lines; the name of the node when left out')) };
const write = debug('blockfuse:log');

/** One line for every request that passes, with its outcome and how long it took. `DEBUG=blockfuse:log` shows them. */
class Log implements FilterDriver {
  readonly family = 'filter';
  private readonly file: Child;
  private readonly tag: string;

  constructor(file: Child, tag: string) {
    this.file = file;
    this.tag = tag;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (!this.file.tryRead(bytes, at, length, offset)) return false;
    if (write.enabled) write('%s: read %d+%d at once', this.tag, offset, length);
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (!this.file.tryWrite(bytes, at, length, offset)) return false;
    if (write.enabled) write('%s: write %d+%d at once', this.tag, offset, length);
    return true;
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    return this.note(`read ${offset}+${bytes.length}`, () => this.file.read(bytes, offset));
  }

  write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    return this.note(`write ${offset}+${bytes.length}`, () => this.file.write(bytes, offset, flags));
  }

  writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    return this.note(`write-zeroes ${offset}+${length} flags ${flags}`, () =>
      this.file.writeZeroes(offset, length, flags),
    );
  }

  discard(offset: number, length: number): Promise<void> {
    return this.note(`discard ${offset}+${length}`, () => this.file.discard(offset, length));
  }

  flush(): Promise<void> {
    return this.note('flush', () => this.file.flush());
  }

  resize(size: number, shrink: boolean): Promise<void> {
    return this.note(`resize to ${size}`, () => this.file.resize(size, shrink));
  }

  private async note(what: string, run: () => Promise<void>): Promise<void> {
    const start = performance.now();
    let outcome = 'done';
    try {
      await run();
    } catch (error) {
      outcome = errnoOf(error);
      throw error;
    } finally {
      if (write.enabled)
        write('%s: %s %s %d us', this.tag, what, outcome, (performance.now() - start) * 1000);
    }
  }
}

const open = (context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<FilterDriver> =>
  Promise.resolve(new Log(context.child('file'), context.options.tag ?? context.nodeName));

export const logDriver = defineDriver({
  name: 'log',
  kind: 'filter',
  summary: 'Writes a line for every request to the debug log',
  options: OPTIONS,
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The node to be watched' },
  },
  open,
});
