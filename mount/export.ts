import type { Child, ChildParent } from '../src/block/child.ts';
import { BlockError } from '../src/block/errors.ts';
import { alignUp } from '../src/util/sizes.ts';
import { Latencies } from './latency.ts';
import type { RequestKind } from './latency.ts';

/** What a disk file needs of its root child; `Child` has it, tests have something smaller. */
export type RootChild = Pick<
  Child,
  | 'size'
  | 'sizeUnit'
  | 'tryRead'
  | 'tryWrite'
  | 'read'
  | 'write'
  | 'writeZeroes'
  | 'discard'
  | 'flush'
  | 'status'
  | 'resize'
>;

export interface ExportOptions {
  /** For messages: the `id` of the export. */
  readonly id: string;
  readonly writable: boolean;
  /** Writes past the end and truncation change the size; the root child has the resize permission. */
  readonly growable: boolean;
  /** Holes may be punched. They read as zeroes in any case; off answers ENOTSUP, so that nobody tries again. */
  readonly discard: boolean;
}

/** Counters for `query` commands; bytes and requests since the mount. */
export class ExportCounters {
  reads = 0;
  writes = 0;
  bytesRead = 0;
  bytesWritten = 0;
  zeroes = 0;
  discards = 0;
  flushes = 0;
  /** Requests that could not be answered at once. */
  slow = 0;
  failed = 0;
}

/** One request of the kernel. While it waits for the end of a drain, `cancel` ends it with EINTR. */
export interface Cancellable {
  cancel: (() => void) | undefined;
}

/**
 * What stands between a mounted file and the graph: it holds the root child and can be drained. Drained, it sends no
 * request to the graph; requests that come meanwhile wait, in their order.
 */
export class FuseExport implements ChildParent {
  readonly label: string;
  readonly parentNode = undefined;
  readonly options: ExportOptions;
  readonly counters = new ExportCounters();
  readonly latencies = new Latencies();
  /** Told of each request that the graph refused. */
  onError: ((operation: 'read' | 'write', error: unknown) => void) | undefined = undefined;
  private child: RootChild | undefined;
  private drains = 0;
  private inFlight = 0;
  /** Start those that wait for the end of a drain, in order of arrival. */
  private readonly held: (() => void)[] = [];
  private idleWaiters: (() => void)[] = [];
  /** Where the file ends as long as the disk has `diskSize`. */
  private shownSize = 0;
  private diskSize = -1;

  constructor(options: ExportOptions) {
    this.options = options;
    this.label = `export "${options.id}"`;
  }

  /** Set once, before the mount: the child is made with this export as its parent. */
  attach(root: RootChild): this {
    this.child = root;
    return this;
  }

  /** The export has ended: whoever still has it open gets errors. */
  detach(): void {
    this.child = undefined;
  }

  get root(): RootChild {
    if (this.child === undefined)
      throw new BlockError('ENODEV', `Cannot use ${this.label}: it has no root node`);
    return this.child;
  }

  /**
   * Bytes of the file. Formats count in sectors, the users of a growable file in bytes: as long as it is mounted it ends where
   * they said, inside the last sector of the disk, and what is behind that in the sector are zeroes.
   */
  get size(): number {
    const { size } = this.root;
    return size === this.diskSize ? this.shownSize : size;
  }

  /** What `truncate` asks for. The disk is changed first: a format that refuses has lost nothing. */
  async resize(root: RootChild, size: number): Promise<void> {
    const before = this.size;
    const whole = alignUp(size, root.sizeUnit);
    if (whole !== root.size) await root.resize(whole, whole < root.size);
    if (size < before && size < whole) await root.writeZeroes(size, Math.min(whole, before) - size);
    this.endAt(root, size);
  }

  /** The file reaches to `end`, if it did not before: the disk has been grown for it. */
  reached(root: RootChild, end: number, before: number): void {
    if (end > before) this.endAt(root, Math.max(end, this.diskSize === root.size ? this.shownSize : 0));
  }

  private endAt(root: RootChild, size: number): void {
    this.shownSize = size;
    this.diskSize = alignUp(size, root.sizeUnit);
  }

  failed(operation: 'read' | 'write', error: unknown): void {
    this.counters.failed += 1;
    this.onError?.(operation, error);
  }

  /** Requests that wait for the graph, or for the end of a drain. */
  get underWay(): number {
    return this.inFlight + this.held.length;
  }

  /** No request may be sent to the graph now. The fast path asks this. */
  get isDrained(): boolean {
    return this.drains !== 0;
  }

  drainBegin(): void {
    this.drains += 1;
  }

  /** Resolves when no request is under way. */
  drained(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.idleWaiters.push(resolve));
  }

  drainEnd(): void {
    this.drains -= 1;
    while (this.drains === 0 && this.held.length > 0) this.held.shift()?.();
  }

  /** Runs `work` as one request: not while drained, counted, and timed where its kind is given. */
  async run<Result>(
    owner: Cancellable,
    work: (root: RootChild) => Promise<Result>,
    kind?: RequestKind,
  ): Promise<Result> {
    const started = kind === undefined ? 0 : performance.now();
    if (this.isDrained) await this.hold(owner);
    this.inFlight += 1;
    try {
      return await work(this.root);
    } finally {
      if (kind !== undefined) this.latencies[kind].since(started, 1);
      this.inFlight -= 1;
      if (this.inFlight === 0) this.wakeIdleWaiters();
    }
  }

  /** A request that goes on is counted before anybody else runs, so that a new drain sees it. */
  private async hold(owner: Cancellable): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const proceed = (): void => {
        this.inFlight += 1;
        resolve();
      };
      this.held.push(proceed);
      owner.cancel = () => {
        this.held.splice(this.held.indexOf(proceed), 1);
        reject(new BlockError('EINTR', `Cannot wait for ${this.label}: interrupted`));
      };
    }).finally(() => {
      owner.cancel = undefined;
    });
    this.inFlight -= 1;
  }

  private wakeIdleWaiters(): void {
    const waiters = this.idleWaiters;
    this.idleWaiters = [];
    for (const wake of waiters) wake();
  }
}
