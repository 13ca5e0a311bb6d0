/**
 * Threads that unpack. They are started when there is work for them, as many as there are cores, and end when there was none
 * for a while; they don't keep the process alive unless work is waited for.
 *
 *     jobs wait in one queue ->  thread: one at a time, small ones several  -> answers
 *     steps of a block ------->  the thread that has the block
 *
 * What zlib and zstd unpack is done in the time of a few messages. So the jobs of one turn of the event loop are gathered into
 * few messages, and a small one that is alone is done at once.
 *
 * A thread that takes too long or dies fails what it was doing; blocks that it had are lost and may be started over.
 */
import { availableParallelism } from 'node:os';
import { freeMemory } from '../util/free-memory.ts';
import { UnpackerLost } from '../util/unpack-service.ts';
import type {
  Packing,
  UnpackJob,
  UnpackService,
  XzBlockSetup,
  XzBlockSteps,
  XzStep,
} from '../util/unpack-service.ts';
import { decode } from '../util/unpack-decoders.ts';
import { asBuffer, own } from './unpack-messages.ts';
import type { UnpackAnswer } from './unpack-messages.ts';
import { UnpackThread } from './unpack-thread.ts';
import type { RequestTask, Task, UnpackPoolLimits, UnpackTask } from './unpack-thread.ts';

const LIMITS: UnpackPoolLimits = {
  threads: Math.min(8, availableParallelism()),
  timeout: 60_000,
  idle: 10_000,
  heapMiB: 128,
};
const QUICK: ReadonlySet<Packing> = new Set<Packing>(['deflate', 'zlib', 'zstd']);
/** Bytes of the quick jobs of one message, packed or unpacked: they fit into the room of a thread. */
const MESSAGE_BYTES = 512 * 1024;
/** A quick job of at most so many bytes takes less time than a thread to start, and hardly more than one to wake. */
const ALONE_BYTES = 64 * 1024;

export class UnpackPool implements UnpackService {
  private readonly limits: UnpackPoolLimits;
  private readonly threads: UnpackThread[] = [];
  private readonly waiting: Task[] = [];
  private blocks = 0;
  private gathering = false;

  constructor(limits: Partial<UnpackPoolLimits> = {}) {
    this.limits = { ...LIMITS, ...limits };
  }

  /** Threads that run now. */
  get size(): number {
    return this.threads.length;
  }

  unpack(packed: Buffer, job: UnpackJob): Promise<Buffer> {
    let content: Buffer = Buffer.alloc(0);
    // The room of a thread is used again; anything else is its receiver's own.
    const keep = (plain: Buffer): void => {
      content = plain.buffer.byteLength === plain.length ? plain : Buffer.from(plain);
    };
    return this.unpackTo(packed, job, keep).then(() => {
      freeMemory(packed);
      return content;
    });
  }

  unpackTo(packed: Buffer, job: UnpackJob, take: (plain: Buffer) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const taken = (plain: Buffer): void => {
        try {
          take(plain);
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new TypeError(String(error)));
        }
      };
      this.waiting.push({ packed, job, take: taken, reject });
      if (QUICK.has(job.packing)) this.gather();
      else this.assign();
    });
  }

  openXzBlock(setup: XzBlockSetup): XzBlockSteps {
    const id = (this.blocks += 1);
    let thread: UnpackThread | undefined;
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

  private ask(request: RequestTask['request'], thread: UnpackThread): Promise<UnpackAnswer> {
    return new Promise((resolve, reject) => {
      if (thread.isDead) {
        reject(new UnpackerLost('the thread that was unpacking ended'));
        return;
      }
      this.waiting.push({ request, thread, resolve, reject });
      this.assign();
    });
  }

  /** Waits for what else comes in this turn. */
  private gather(): void {
    if (this.gathering) return;
    this.gathering = true;
    setImmediate(() => {
      this.gathering = false;
      const [first] = this.waiting;
      if (
        this.waiting.length === 1 &&
        first !== undefined &&
        isQuick(first) &&
        first.job.size <= ALONE_BYTES
      ) {
        this.waiting.length = 0;
        doHere(first);
      } else this.assign();
    });
  }

  /** Gives waiting tasks to threads that have nothing to do, starting threads as long as there may be more. */
  private assign(): void {
    for (let index = 0; index < this.waiting.length;) {
      const task = this.waiting[index];
      const thread = task !== undefined && 'thread' in task ? task.thread : this.freeThread();
      if (task === undefined || thread === undefined || thread.isBusy) {
        index += 1;
        continue;
      }
      thread.run(this.waiting.splice(index, this.messageLength(index)));
    }
  }

  /** How many of the tasks that wait, from one on, go in a message. */
  private messageLength(start: number): number {
    let bytes = 0;
    for (let count = 0; ; count += 1) {
      const task = this.waiting[start + count];
      if (task === undefined || !isQuick(task)) return Math.max(1, count);
      bytes += Math.max(task.job.size, task.packed.length);
      if (bytes > MESSAGE_BYTES) return Math.max(1, count);
    }
  }

  private freeThread(): UnpackThread | undefined {
    return (
      this.threads.find((thread) => !thread.isBusy) ??
      (this.threads.length < this.limits.threads ? this.start() : undefined)
    );
  }

  private leastLoaded(): UnpackThread {
    if (this.threads.length < this.limits.threads) return this.freeThread() ?? this.start();
    return this.threads.reduce((best, one) => (one.blocks < best.blocks ? one : best));
  }

  private start(): UnpackThread {
    const thread = new UnpackThread(this.limits, {
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

  private drop(thread: UnpackThread): void {
    const index = this.threads.indexOf(thread);
    if (index >= 0) this.threads.splice(index, 1);
    for (let at = this.waiting.length - 1; at >= 0; at -= 1) {
      const task = this.waiting[at];
      if (task === undefined || !('thread' in task) || task.thread !== thread) continue;
      this.waiting.splice(at, 1);
      task.reject(new UnpackerLost('the thread that was unpacking ended'));
    }
    this.assign();
  }
}

const isQuick = (task: Task): task is UnpackTask => 'job' in task && QUICK.has(task.job.packing);

function doHere(task: UnpackTask): void {
  let plain: Buffer;
  try {
    plain = decode(task.packed, task.job);
  } catch (error) {
    task.reject(error instanceof Error ? error : new RangeError(String(error)));
    return;
  }
  task.take(plain);
}

function stepOf(answer: UnpackAnswer & { kind: 'step' }): XzStep {
  return { ...answer.rest, plain: asBuffer(answer.plain) };
}

function unexpected({ kind }: UnpackAnswer): never {
  throw new TypeError(`unexpected answer "${kind}"`);
}
