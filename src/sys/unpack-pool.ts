/**
 * Whatever unpacks on other threads:
 *
 *     zlib, zstd ------------> zip-queue.ts: Node's own libraries, in libuv's thread pool
 *     own decoders ----------> one queue ->  threads of this pool: one job at a time
 *     steps of a block ------>               the thread that has the block
 *
 * Threads are started when there is work for them, as many as there are cores, and end when there was none for a while; they
 * don't keep the process alive unless work is waited for. A thread that takes too long or dies fails what it was doing; blocks
 * that it had are lost and may be started over.
 */
import { availableParallelism } from 'node:os';
import { freeMemory } from '../util/free-memory.ts';
import { unpackHere, UnpackerLost } from '../util/unpack-service.ts';
import type {
  InflateScan,
  UnpackJob,
  UnpackService,
  XzBlockSetup,
  XzBlockSteps,
  XzStep,
} from '../util/unpack-service.ts';
import { asBuffer, own } from './unpack-messages.ts';
import type { UnpackAnswer, UnpackRequest } from './unpack-messages.ts';
import { UnpackThread } from './unpack-thread.ts';
import type { Task, UnpackPoolLimits } from './unpack-thread.ts';
import { isZip, zipLibrary } from './zip-library.ts';
import type { ZipLibrary } from './zip-library.ts';
import { ZipQueue } from './zip-queue.ts';
import { ZipScan } from './zip-scan.ts';

const LIMITS: UnpackPoolLimits = {
  threads: Math.min(8, availableParallelism()),
  timeout: 60_000,
  idle: 10_000,
  heapMiB: 128,
};

export class UnpackPool implements UnpackService {
  private readonly limits: UnpackPoolLimits;
  private readonly threads: UnpackThread[] = [];
  private readonly waiting: Task[] = [];
  private readonly library: ZipLibrary | 'none';
  private readonly zips: ZipQueue | undefined;
  private blocks = 0;

  /** @param library 'none': zlib and Zstandard are unpacked by threads of the pool as well */
  constructor(limits: Partial<UnpackPoolLimits> = {}, library: ZipLibrary | 'none' = zipLibrary ?? 'none') {
    this.limits = { ...LIMITS, ...limits };
    this.library = library;
    this.zips = library === 'none' ? undefined : new ZipQueue(library, this.limits.threads * 2);
  }

  /** Threads that run now. */
  get size(): number {
    return this.threads.length;
  }

  async unpack(packed: Buffer, job: UnpackJob): Promise<Buffer> {
    if (this.zips === undefined || !isZip(job.packing)) return this.decode(packed, job);
    const plain = Buffer.allocUnsafeSlow(job.size);
    await this.zips.unpackInto(packed, job.packing, plain);
    freeMemory(packed);
    return plain;
  }

  async unpackInto(packed: Buffer, job: UnpackJob, out: Buffer): Promise<void> {
    if (this.zips !== undefined && isZip(job.packing)) await this.zips.unpackInto(packed, job.packing, out);
    else (await this.decode(packed, job)).copy(out);
  }

  openInflateScan(): Promise<InflateScan> {
    return this.library === 'none'
      ? unpackHere.openInflateScan()
      : Promise.resolve(new ZipScan(this.library));
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

  private async decode(packed: Buffer, job: UnpackJob): Promise<Buffer> {
    const answer = await this.ask({ kind: 'unpack', packed: own(packed), job });
    return answer.kind === 'plain' ? asBuffer(answer.plain) : unexpected(answer);
  }

  /** @param thread whose state the request needs */
  private ask(request: UnpackRequest, thread?: UnpackThread): Promise<UnpackAnswer> {
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
      if (task === undefined || task.thread !== thread) continue;
      this.waiting.splice(at, 1);
      task.reject(new UnpackerLost('the thread that was unpacking ended'));
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
