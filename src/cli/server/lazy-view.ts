import type { RootChild } from '../../../mount/export.ts';
import type { Child } from '../../block/child.ts';
import { BlockError } from '../../block/errors.ts';
import type { BlockStatus } from '../../block/extent.ts';

/** How long a view that nobody has open stays. */
const LINGER_MS = 5000;

export interface ViewSource {
  readonly size: number;
  open(): Promise<Child>;
  close(child: Child): Promise<void>;
}

/** What a read-only file shows, opened when it is first read: a folder may show many that nobody reads. */
export class LazyView implements RootChild {
  /** It never grows. */
  readonly sizeUnit = 1;
  private readonly source: ViewSource;
  private child: Child | undefined;
  private opening: Promise<Child> | undefined;
  private lingering: NodeJS.Timeout | undefined;

  constructor(source: ViewSource) {
    this.source = source;
  }

  get size(): number {
    return this.source.size;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.child?.tryRead(bytes, at, length, offset) ?? false;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    const child = this.child ?? (await this.opened());
    await child.read(bytes, offset);
  }

  async status(offset: number, max: number, out: BlockStatus): Promise<void> {
    const child = this.child ?? (await this.opened());
    await child.status(offset, max, out);
  }

  tryWrite(): boolean {
    return false;
  }

  write(): Promise<void> {
    return this.refuse();
  }

  writeZeroes(): Promise<void> {
    return this.refuse();
  }

  discard(): Promise<void> {
    return this.refuse();
  }

  resize(): Promise<void> {
    return this.refuse();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Nobody has it open: closed in a while, if it stays so. */
  closeSoon(): void {
    clearTimeout(this.lingering);
    this.lingering = setTimeout(() => {
      void this.close().catch(() => undefined);
    }, LINGER_MS).unref();
  }

  /** It is opened again by the next read. */
  async close(): Promise<void> {
    clearTimeout(this.lingering);
    await this.opening?.catch(() => undefined);
    const { child } = this;
    this.child = undefined;
    if (child !== undefined) await this.source.close(child);
  }

  private opened(): Promise<Child> {
    clearTimeout(this.lingering);
    this.opening ??= this.openNow().finally(() => {
      this.opening = undefined;
    });
    return this.opening;
  }

  private async openNow(): Promise<Child> {
    this.child = await this.source.open();
    return this.child;
  }

  private refuse(): Promise<never> {
    return Promise.reject(new BlockError('EROFS', 'Cannot write: it shows what was, and can only be read'));
  }
}
