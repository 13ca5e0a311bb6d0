import { defineDriver } from '../../src/block/driver.ts';
import type { Child } from '../../src/block/child.ts';
import type { FilterDriver } from '../../src/block/driver.ts';
import { Role } from '../../src/block/permissions.ts';
import { integer, optional } from '../../src/block/schema.ts';

interface Delays {
  readonly 'read-ms': number;
  readonly 'write-ms': number;
  readonly 'flush-ms': number;
}

/** Requests take at least so long. A kind without a delay passes as if the filter were not there. */
class Delay implements FilterDriver {
  readonly family = 'filter';
  private readonly file: Child;
  private readonly delays: Delays;
  private drained = 0;
  private readonly sleeping = new Map<NodeJS.Timeout, () => void>();

  constructor(file: Child, delays: Delays) {
    this.file = file;
    this.delays = delays;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.delays['read-ms'] === 0 && this.file.tryRead(bytes, at, length, offset);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.delays['write-ms'] === 0 && this.file.tryWrite(bytes, at, length, offset);
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    await this.sleep(this.delays['read-ms']);
    await this.file.read(bytes, offset);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    await this.sleep(this.delays['write-ms']);
    await this.file.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.sleep(this.delays['write-ms']);
    await this.file.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.sleep(this.delays['write-ms']);
    await this.file.discard(offset, length);
  }

  async flush(): Promise<void> {
    await this.sleep(this.delays['flush-ms']);
    await this.file.flush();
  }

  drainBegin(): void {
    this.drained += 1;
    for (const [timer, wake] of this.sleeping) {
      clearTimeout(timer);
      wake();
    }
    this.sleeping.clear();
  }

  drainEnd(): void {
    this.drained -= 1;
  }

  private async sleep(milliseconds: number): Promise<void> {
    if (milliseconds === 0 || this.drained > 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.sleeping.delete(timer);
        resolve();
      }, milliseconds);
      this.sleeping.set(timer, resolve);
    });
  }
}

export const delayDriver = defineDriver({
  name: 'delay',
  kind: 'filter',
  summary: 'Makes requests take longer, for tests',
  options: {
    'read-ms': optional(integer('Milliseconds that a read waits'), 0),
    'write-ms': optional(integer('Milliseconds that a write, write-zeroes or discard waits'), 0),
    'flush-ms': optional(integer('Milliseconds that a flush waits'), 0),
  },
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The node to be slowed down' },
  },
  open: (context) => Promise.resolve(new Delay(context.child('file'), context.options)),
});
