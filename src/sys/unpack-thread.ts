/** One thread of the pool (unpack-pool.ts), and what it is doing. */
import { Worker } from 'node:worker_threads';
import type { UnpackJob } from '../util/unpack-service.ts';
import { asBuffer, own } from './unpack-messages.ts';
import type { UnpackAnswer, UnpackMessage, UnpackReply, UnpackRequest } from './unpack-messages.ts';
import { UnpackRoom } from './unpack-room.ts';
import { workerCode } from './unpack-worker-code.ts';

export interface UnpackPoolLimits {
  readonly threads: number;
  /** Milliseconds: what a request may take, and what a thread waits for the next one. */
  readonly timeout: number;
  readonly idle: number;
  /** Memory of a thread beside the bytes themselves, in MiB. */
  readonly heapMiB: number;
}

/** Bytes to unpack. What `take` is given holds until it returns. */
export interface UnpackTask {
  readonly packed: Buffer;
  readonly job: UnpackJob;
  take(plain: Buffer): void;
  reject(error: Error): void;
}

/** Anything else, with its answer as it comes. */
export interface RequestTask {
  readonly request: Exclude<UnpackRequest, { kind: 'unpack' | 'room' }>;
  readonly thread: UnpackThread;
  resolve(answer: UnpackAnswer): void;
  reject(error: Error): void;
}

export type Task = UnpackTask | RequestTask;

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
  private room = new UnpackRoom();
  private tasks: readonly Task[] = [];
  private requests: readonly UnpackRequest[] = [];
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
    this.worker.on('message', (reply: UnpackReply) => {
      this.finish(reply);
    });
    this.worker.on('error', (error) => {
      this.die(error instanceof Error ? error.message : String(error));
    });
    this.worker.on('exit', () => {
      this.die('the thread that was unpacking ended');
    });
  }

  get isBusy(): boolean {
    return this.tasks.length > 0;
  }

  /** Does one task, or several that fit into the room together. */
  run(tasks: readonly Task[]): void {
    this.room = new UnpackRoom(this.room.memory);
    const requests = tasks.map((task) => this.requestFor(task));
    this.tasks = tasks;
    this.requests = requests;
    this.worker.ref();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.die(`it was not unpacked within ${this.limits.timeout / 1000} s`);
    }, this.limits.timeout);
    const message: UnpackMessage = { requests, room: this.room.memory };
    this.worker.postMessage(message, [this.room.memory, ...requests.flatMap(memoryOf)]);
  }

  private requestFor(task: Task): UnpackRequest {
    if ('request' in task) return task.request;
    const { packed, job } = task;
    if (!this.room.fits(packed.length, job.size)) return { kind: 'unpack', packed: own(packed), job };
    return { kind: 'room', place: this.room.add(packed, job.size), job };
  }

  private finish({ answers, room }: UnpackReply): void {
    const { tasks, requests } = this;
    if (tasks.length === 0) return;
    this.room = new UnpackRoom(room);
    this.rest();
    for (const [index, task] of tasks.entries()) {
      const answer = answers[index] ?? { kind: 'failed', message: 'there is no answer' };
      if (answer.kind === 'failed') task.reject(new RangeError(answer.message));
      else if ('request' in task) task.resolve(answer);
      else task.take(this.plainOf(answer, requests[index], task.job.size));
    }
    this.owner.free();
  }

  private plainOf(answer: UnpackAnswer, request: UnpackRequest | undefined, size: number): Buffer {
    if (answer.kind === 'plain') return asBuffer(answer.plain);
    if (request?.kind === 'room') return this.room.view(request.place.out, size);
    throw new TypeError(`unexpected answer "${answer.kind}"`);
  }

  private rest(): void {
    this.tasks = [];
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
    const { tasks } = this;
    this.tasks = [];
    this.worker.terminate().catch(() => {});
    this.owner.ended();
    for (const task of tasks) task.reject(new RangeError(why));
  }
}

/** What a request hands over instead of being copied. */
function memoryOf(request: UnpackRequest): ArrayBuffer[] {
  if (request.kind === 'unpack') return [request.packed.buffer];
  return request.kind === 'step' ? [request.input.buffer] : [];
}
