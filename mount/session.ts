/**
 * Receive, decode, answer: one FUSE connection in Node's event loop.
 *
 *   device readable -> read a request -> tryRead/tryWrite of the root child -> answer          (hot path: same buffer, no
 *                            |                    | would wait                                   allocation, no await)
 *                            |                    v
 *                            |             SlowRequest with a buffer of its own -> await -> answer
 *                            v
 *                      other operations (operations/): at once, or as a SlowRequest
 *
 * Waking a sleeping thread is what costs most, so while requests keep coming the device is asked again some
 * times before this thread sleeps (SPINS), and not while something slow is under way: its completion needs the loop. A
 * wake handles a bounded batch, so that timers and sockets get their turn.
 */
import createDebug from 'debug';
import { BlockError } from '../src/block/errors.ts';
import type { FuseDevice } from '../src/sys/fuse-device.ts';
import { errnoName, errnoNumber } from '../src/sys/libc.ts';
import { ReadPoll } from '../src/sys/poll.ts';
import { BlockFile } from './block-file.ts';
import { BufferPool } from './io-buffer.ts';
import type { IoBuffer } from './io-buffer.ts';
import { Latency } from './latency.ts';
import { OPERATIONS } from './operations/index.ts';
import { read, tryRead } from './operations/read.ts';
import { decodeWrite, tryWrite, write } from './operations/write.ts';
import { MAX_PAYLOAD, Opcode } from './protocol/constants.ts';
import type { Agreement } from './protocol/init.ts';
import { negotiate } from './protocol/init.ts';
import { InterruptIn, Word, WRITE_PAYLOAD } from './protocol/layout.ts';
import { RequestView } from './protocol/request.ts';
import { Replies, uniqueOf } from './replies.ts';
import type { SlowRequest } from './slow-requests.ts';
import { SlowRequests } from './slow-requests.ts';
import type { MountState, Operation } from './state.ts';

const log = createDebug('blockfuse:fuse');

/** Units of work of one wake: a request is one, and one more for each 64 KiB it carries. */
const BATCH = 128;
/** Attempts without a request before sleeping: about 30 us. */
const SPINS = 50;
/** Bytes of buffers that slow requests may hold before the device is left alone. */
const MAX_SLOW_BYTES = 64 * 1_048_576;
/** A slow write of up to this much is copied out of the request, a larger one keeps the request's buffer. */
const COPIED_WRITE = 65_536;
const ENOENT = errnoNumber('ENOENT');

export interface SessionOptions {
  readonly wantPassthrough: boolean;
}

export class Session {
  /** Resolves when the kernel's INIT is answered: the mount works. Rejects when the session ends before. */
  readonly ready: Promise<Agreement>;
  /** Resolves when the mount is gone, every request is over and the device is closed. */
  readonly closed: Promise<void>;
  private readonly device: FuseDevice;
  private readonly state: MountState;
  private readonly options: SessionOptions;
  private readonly replies: Replies;
  private readonly poll: ReadPoll;
  private readonly pool = new BufferPool();
  private readonly slow = new SlowRequests();
  private readonly view = new RequestView();
  private io: IoBuffer;
  /** Units of work left until the event loop must have its turn. */
  private budget = 0;
  private isThrottled = false;
  private isEnded = false;
  private readonly becomeReady = Promise.withResolvers<Agreement>();
  private readonly becomeClosed = Promise.withResolvers<void>();

  /** Starts at once. The device belongs to the session from now on. */
  constructor(device: FuseDevice, state: MountState, options: SessionOptions) {
    this.device = device;
    this.state = state;
    this.options = options;
    this.ready = this.becomeReady.promise;
    this.ready.catch(() => undefined);
    this.closed = this.becomeClosed.promise;
    this.replies = new Replies(device);
    this.io = this.pool.take(MAX_PAYLOAD);
    this.poll = new ReadPoll(device.fd, {
      readable: () => {
        this.budget = BATCH;
        this.serve(false);
      },
      failed: (error) => {
        this.end(error);
      },
    });
  }

  /** Takes no more requests and closes when those under way are answered. Who has a file open gets errors from then on. */
  stop(): void {
    this.end('stopped');
  }

  /** Sends a message that answers no request. */
  notify(message: Buffer): Promise<void> {
    return this.device.writeLater(message);
  }

  /**
   * Requests until there are none for a while, or the batch of this wake is done.
   * @param isExpecting an answer was just given, so a request is likely to come: worth spinning for
   */
  private serve(isExpecting: boolean): void {
    let misses = isExpecting ? 0 : SPINS;
    while (this.budget > 0 && !this.isThrottled && !this.isEnded) {
      const length = this.device.read(this.io.address - WRITE_PAYLOAD, MAX_PAYLOAD + WRITE_PAYLOAD);
      if (length > 0) {
        misses = 0;
        this.budget -= 1 + (length >>> 16);
        this.budget -= this.handle(length);
      } else if (length < 0 && length !== -ENOENT) {
        this.end(length);
      } else {
        misses += 1;
        if (misses > SPINS || this.slow.count > 0) return;
      }
    }
  }

  /** Returns extra cost for the batch. */
  private handle(length: number): number {
    const { io } = this;
    const at = io.requestWord;
    const opcode = io.words[at + Word.opcode] ?? 0;
    if (opcode === Opcode.read || opcode === Opcode.write) {
      const inode = this.state.inodes.find(io.words[at + Word.nodeLow] ?? 0);
      if (inode instanceof BlockFile)
        return opcode === Opcode.read ? this.readDisk(inode) : this.writeDisk(inode);
    }
    this.dispatch(opcode, length);
    return 0;
  }

  private readDisk(file: BlockFile): number {
    const target = file.export;
    const weight = Latency.weight(target.counters.reads);
    const started = weight === 0 ? 0 : performance.now();
    try {
      const length = tryRead(file, this.io);
      if (length < 0) {
        void this.readLater(file);
        return 0;
      }
      this.replies.data(this.io, length);
      if (weight !== 0) target.latencies.read.since(started, weight);
      return length >>> 16;
    } catch (error) {
      this.fail(file, 'read', error);
      return 0;
    }
  }

  private writeDisk(file: BlockFile): number {
    const target = file.export;
    const weight = Latency.weight(target.counters.writes);
    const started = weight === 0 ? 0 : performance.now();
    try {
      const length = tryWrite(file, this.io);
      if (length < 0) {
        void this.writeLater(file);
        return 0;
      }
      this.replies.written(this.io, length);
      if (weight !== 0) target.latencies.write.since(started, weight);
    } catch (error) {
      this.fail(file, 'write', error);
    }
    return 0;
  }

  private fail(file: BlockFile, operation: 'read' | 'write', error: unknown): void {
    file.export.failed(operation, error);
    this.replies.failure(uniqueOf(this.io), this.io, error);
  }

  private async readLater(file: BlockFile): Promise<void> {
    const { words, requestWord: at } = this.io;
    const offset = (words[at + Word.offsetHigh] ?? 0) * 2 ** 32 + (words[at + Word.offsetLow] ?? 0);
    const range = { offset, length: Math.min(words[at + Word.size] ?? 0, MAX_PAYLOAD) };
    const buffer = this.pool.take(range.length);
    const request = this.beginSlow(file);
    try {
      const length = await file.export.run(request, (root) => read(file, root, buffer, range), 'read');
      this.replies.dataFor(request.unique, buffer, length);
    } catch (error) {
      file.export.failed('read', error);
      this.replies.failure(request.unique, buffer, error);
    }
    this.pool.give(buffer);
    this.endSlow(request);
  }

  private async writeLater(file: BlockFile): Promise<void> {
    const job = decodeWrite(this.io);
    const request = this.beginSlow(file);
    const buffer = this.takePayload(job.length);
    try {
      const length = await file.export.run(request, (root) => write(file, root, buffer, job), 'write');
      this.replies.writtenFor(request.unique, buffer, length);
    } catch (error) {
      file.export.failed('write', error);
      this.replies.failure(request.unique, buffer, error);
    }
    this.pool.give(buffer);
    this.endSlow(request);
  }

  /** A buffer that holds the payload of the current request, which is free afterwards. */
  private takePayload(length: number): IoBuffer {
    const { io } = this;
    if (length > COPIED_WRITE) {
      this.io = this.pool.take(MAX_PAYLOAD);
      return io;
    }
    const buffer = this.pool.take(length);
    io.bytes.copy(buffer.bytes, buffer.data, io.data, io.data + length);
    return buffer;
  }

  private dispatch(opcode: number, length: number): void {
    const { io } = this;
    this.view.set(io.bytes, io.data - WRITE_PAYLOAD, length);
    if (opcode === Opcode.init) return this.answerInit();
    if (opcode === Opcode.interrupt) return this.slow.interrupt(this.view.u64(InterruptIn.unique));
    const operation = OPERATIONS.get(opcode);
    if (log.enabled) log('opcode %d on inode %d', opcode, this.view.nodeId);
    if (operation === undefined) return this.refuse(opcode);
    if (operation.kind === 'later') {
      void this.answerLater(operation);
      return undefined;
    }
    return this.answerNow(operation);
  }

  private refuse(opcode: number): void {
    this.replies.failure(
      uniqueOf(this.io),
      this.io,
      new BlockError('ENOSYS', `Cannot serve FUSE operation "${opcode}"`),
    );
  }

  private answerNow(operation: Extract<Operation, { kind: 'now' | 'silent' }>): void {
    const unique = uniqueOf(this.io);
    try {
      const body = operation.run(this.state, this.view);
      if (operation.kind === 'now' && body !== undefined) this.replies.body(unique, this.io, body);
    } catch (error) {
      if (operation.kind === 'now') this.replies.failure(unique, this.io, error);
    }
  }

  private async answerLater(operation: Extract<Operation, { kind: 'later' }>): Promise<void> {
    const request = this.beginSlow();
    try {
      const body = await operation.run(this.state, this.view, request);
      this.replies.body(request.unique, this.io, body);
    } catch (error) {
      this.replies.failure(request.unique, this.io, error);
    }
    this.endSlow(request);
  }

  private answerInit(): void {
    const unique = uniqueOf(this.io);
    try {
      const agreement = negotiate(this.view, this.options.wantPassthrough);
      this.state.passthrough.enabled = agreement.passthrough;
      this.replies.body(unique, this.io, agreement.reply);
      log('protocol 7.%d, passthrough %s', agreement.minor, agreement.passthrough);
      this.becomeReady.resolve(agreement);
    } catch (error) {
      this.replies.failure(unique, this.io, error);
      this.becomeReady.reject(error);
    }
  }

  private beginSlow(file?: BlockFile): SlowRequest {
    if (file !== undefined) file.export.counters.slow += 1;
    const request = this.slow.begin(uniqueOf(this.io));
    this.throttle();
    return request;
  }

  private endSlow(request: SlowRequest): void {
    this.slow.end(request);
    this.throttle();
    if (this.slow.count === 0) this.serve(true);
  }

  /** Stops or goes on reading the device, by what slow requests hold. */
  private throttle(): void {
    const isFull = this.slow.isFull || this.pool.bytesInUse >= MAX_SLOW_BYTES;
    if (isFull === this.isThrottled || this.isEnded) return;
    this.isThrottled = isFull;
    if (isFull) this.poll.pause();
    else this.poll.resume();
  }

  /** ENODEV is an unmount; anything else is told on the way. */
  private end(reason: unknown): void {
    if (this.isEnded) return;
    this.isEnded = true;
    log('session ends: %s', typeof reason === 'number' ? errnoName(-reason) : reason);
    this.poll.close();
    this.becomeReady.reject(new BlockError('ENODEV', 'Cannot mount: the kernel ended the connection'));
    void this.slow.idle().then(() => {
      this.device.close();
      this.becomeClosed.resolve();
    });
  }
}
