/**
 * Threads that unpack what Node unpacks in JavaScript only. They are started when there is work for them, as many as
 * there are cores, and end when there was none for a while; they don't keep the process alive unless work is waited for.
 *
 *     jobs wait in one queue ->  thread: one at a time  -> answer
 *     steps of a block ------->  the thread that has the block
 *
 * A thread that takes too long or dies fails what it was doing; blocks that it had are lost and may be started over.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { UnpackerLost } from '../util/unpack-service.ts';
import type { UnpackJob, UnpackService, XzBlockSetup, XzBlockSteps, XzStep } from '../util/unpack-service.ts';
import { asBuffer, own } from './unpack-messages.ts';
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

const LIMITS: UnpackPoolLimits = {
  threads: Math.min(8, availableParallelism()),
  timeout: 60_000,
  idle: 10_000,
  heapMiB: 128,
};

interface Task {
  readonly request: UnpackRequest;
  readonly thread: Thread | undefined;
  resolve(answer: UnpackAnswer): void;
  reject(error: Error): void;
}

export class UnpackPool implements UnpackService {
  private readonly limits: UnpackPoolLimits;
  private readonly threads: Thread[] = [];
  private readonly waiting: Task[] = [];
  private blocks = 0;

  constructor(limits: Partial<UnpackPoolLimits> = {}) {
    this.limits = { ...LIMITS, ...limits };
  }

  /** Threads that run now. */
  get size(): number {
    return this.threads.length;
  }

  async unpack(packed: Buffer, job: UnpackJob): Promise<Buffer> {
    const answer = await this.ask({ kind: 'unpack', packed: own(packed), job });
    return answer.kind === 'plain' ? asBuffer(answer.plain) : unexpected(answer);
  }

  openXzBlock(setup: XzBlockSetup): XzBlockSteps {
    const id = (this.blocks += 1);
    let thread: Thread | undefined;
    let closed = false;
    return {
      step: async (input) => {
        if (thread === undefined) {
          thread = this.leastLoaded();
          thread.blocks += 1;
          await this.ask({ kind: 'open', id, setup }, thread);
        }
        const answer = await this.ask({ kind: 'step', id, input: own(input) }, thread);
        return answer.kind === 'step' ? stepOf(answer) : unexpected(answer);
      },
      close: () => {
        if (thread === undefined || closed) return;
        closed = true;
        thread.blocks -= 1;
        // Where the thread is gone so is the block.
        this.ask({ kind: 'close', id }, thread).catch(() => {});
      },
    };
  }

  private ask(request: UnpackRequest, thread?: Thread): Promise<UnpackAnswer> {
    return new Promise((resolve, reject) => {
      if (thread?.isDead === true) {
        reject(new UnpackerLost('the thread that was unpacking ended'));
        return;
      }
      this.waiting.push({ request, thread, resolve, reject });
      this.assign();
    });
  }

  /** Gives waiting tasks to threads that have nothing to do, starting threads as long as there may be more. */
  private assign(): void {
    for (let index = 0; index < this.waiting.length;) {
      const task = this.waiting[index];
      const thread = task?.thread ?? this.freeThread();
      if (task === undefined || thread === undefined || thread.isBusy) {
        index += 1;
        continue;
      }
      this.waiting.splice(index, 1);
      thread.run(task);
    }
  }

  private freeThread(): Thread | undefined {
    return (
      this.threads.find((thread) => !thread.isBusy) ??
      (this.threads.length < this.limits.threads ? this.start() : undefined)
    );
  }

  private leastLoaded(): Thread {
    if (this.threads.length < this.limits.threads) return this.freeThread() ?? this.start();
    return this.threads.reduce((best, one) => (one.blocks < best.blocks ? one : best));
  }

  private start(): Thread {
    const thread = new Thread(this.limits, {
      free: () => {
        this.assign();
      },
      ended: () => {
        this.drop(thread);
      },
    });
    this.threads.push(thread);
    return thread;
  }

  private drop(thread: Thread): void {
    const index = this.threads.indexOf(thread);
    if (index >= 0) this.threads.splice(index, 1);
    for (let at = this.waiting.length - 1; at >= 0; at -= 1) {
      if (this.waiting[at]?.thread !== thread) continue;
      const [task] = this.waiting.splice(at, 1);
      task?.reject(new UnpackerLost('the thread that was unpacking ended'));
    }
    this.assign();
  }
}

function stepOf(answer: UnpackAnswer & { kind: 'step' }): XzStep {
  return { ...answer.rest, plain: asBuffer(answer.plain) };
}

function unexpected({ kind }: UnpackAnswer): never {
  throw new TypeError(`unexpected answer "${kind}"`);
}

interface ThreadOwner {
  free(): void;
  ended(): void;
}

class Thread {
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
    const { request } = task;
    const moved =
      request.kind === 'unpack' ? [request.packed] : request.kind === 'step' ? [request.input] : [];
    this.worker.postMessage(
      request,
      moved.map(({ buffer }) => buffer),
    );
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
