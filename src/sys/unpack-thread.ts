/** One thread of the pool (unpack-pool.ts), and what it is doing. */
import { Worker } from 'node:worker_threads';
import type { UnpackAnswer, UnpackRequest } from './unpack-messages.ts';
import { workerCode } from './unpack-worker-code.ts';

export interface UnpackPoolLimits {
  readonly threads: number;
  /** Milliseconds: what a request may take, and what a thread waits for the next one. */
  readonly timeout: number;
  readonly idle: number;
  /** Memory of a thread beside the bytes themselves, in MiB. */
  readonly heapMiB: number;
}

export interface Task {
  readonly request: UnpackRequest;
  /** Whose state the request needs; any will do when undefined. */
  readonly thread: UnpackThread | undefined;
  resolve(answer: UnpackAnswer): void;
  reject(error: Error): void;
}

export interface ThreadOwner {
  free(): void;
  ended(): void;
}

export class UnpackThread {
  /** Blocks that it has the state of: it does not end while it has some. */
  blocks = 0;
  isDead = false;
  private readonly worker: Worker;
  private readonly limits: UnpackPoolLimits;
  private readonly owner: ThreadOwner;
  private task: Task | undefined = undefined;
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(limits: UnpackPoolLimits, owner: ThreadOwner) {
    this.limits = limits;
    this.owner = owner;
    const { code, options } = workerCode();
    this.worker = new Worker(code, {
      ...options,
      execArgv: [],
      env: {},
      name: 'blockfuse unpack',
      resourceLimits: { maxOldGenerationSizeMb: limits.heapMiB },
    });
    this.worker.unref();
    this.worker.on('message', (answer: UnpackAnswer) => {
      this.finish(answer);
    });
    this.worker.on('error', (error) => {
      this.die(error instanceof Error ? error.message : String(error));
    });
    this.worker.on('exit', () => {
      this.die('the thread that was unpacking ended');
    });
  }

  get isBusy(): boolean {
    return this.task !== undefined;
  }

  run(task: Task): void {
    this.task = task;
    this.worker.ref();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.die(`it was not unpacked within ${this.limits.timeout / 1000} s`);
    }, this.limits.timeout);
    this.worker.postMessage(task.request, memoryOf(task.request));
  }

  private finish(answer: UnpackAnswer): void {
    const { task } = this;
    if (task === undefined) return;
    this.rest();
    if (answer.kind === 'failed') task.reject(new RangeError(answer.message));
    else task.resolve(answer);
    this.owner.free();
  }

  private rest(): void {
    this.task = undefined;
    this.worker.unref();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.endIdle();
    }, this.limits.idle).unref();
  }

  private endIdle(): void {
    if (this.blocks === 0) this.die('it was idle');
    else this.rest();
  }

  private die(why: string): void {
    if (this.isDead) return;
    this.isDead = true;
    clearTimeout(this.timer);
    const { task } = this;
    this.task = undefined;
    this.worker.terminate().catch(() => {});
    this.owner.ended();
    task?.reject(new RangeError(why));
  }
}

/** What a request hands over instead of being copied. */
function memoryOf(request: UnpackRequest): ArrayBuffer[] {
  if (request.kind === 'unpack') return [request.packed.buffer];
  return request.kind === 'step' ? [request.input.buffer] : [];
}
