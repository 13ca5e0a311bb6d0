/** Disks in memory that refuse the n-th request of a kind, or all from it on. */
import type { RequestDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { ErrnoCode } from '../../src/block/errors.ts';
import { limits } from '../../src/block/limits.ts';

const ROOM = 512 * 1024;
const SECTOR = 512;

export interface Fault {
  /** `allocation`: a write past the end of the file. */
  readonly kind: 'write' | 'flush' | 'allocation';
  /** Counted from 1, over all the disks that share the fault. */
  readonly number: number;
  readonly code: ErrnoCode;
  /** Every request of the kind from there on fails. */
  readonly lasting: boolean;
}

/** Counts requests and tells which one fails. */
export class Faults {
  readonly fault: Fault | undefined;
  /** Requests refused so far. */
  fired = 0;
  private seen = 0;

  constructor(fault?: Fault) {
    this.fault = fault;
  }

  /** Whether the request that is about to be made would be refused; for paths that can't report it. */
  wouldRefuse(kinds: readonly Fault['kind'][]): boolean {
    const { fault } = this;
    return fault !== undefined && kinds.includes(fault.kind) && this.seen + 1 >= fault.number;
  }

  /** What has failed once and for all does not let itself be cut either: undoing a change fails as well. */
  get refusal(): BlockError | undefined {
    const { fault, fired } = this;
    if (fault?.lasting !== true || fired === 0) return undefined;
    return new BlockError(fault.code, `Cannot cut: the disk is broken since ${fault.kind} ${fault.number}`);
  }

  /** The error of this request, if it is its turn. */
  next(kinds: readonly Fault['kind'][]): BlockError | undefined {
    const { fault } = this;
    if (fault === undefined || !kinds.includes(fault.kind)) return undefined;
    this.seen += 1;
    const due = fault.lasting ? this.seen >= fault.number : this.seen === fault.number;
    if (!due) return undefined;
    this.fired += 1;
    return new BlockError(fault.code, `Cannot ${fault.kind}: as asked, number ${this.seen}`);
  }
}

/** What is refused may have been done in part, in whole sectors. */
export class FaultyDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  size: number;
  private bytes: Buffer;
  private readonly faults: Faults;

  constructor(bytes: Buffer, faults: Faults) {
    this.bytes = Buffer.concat([bytes, Buffer.alloc(ROOM)]);
    this.size = bytes.length;
    this.faults = faults;
  }

  /** What the file holds now. */
  content(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.size));
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    this.bytes.copy(bytes, at, offset, offset + length);
    return true;
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    this.bytes.copy(bytes, 0, offset, offset + bytes.length);
    return Promise.resolve();
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const kinds = this.kindsOf(offset, length);
    if (this.faults.wouldRefuse(kinds)) return false;
    this.faults.next(kinds);
    this.change(bytes.subarray(at, at + length), offset);
    return true;
  }

  write(bytes: Buffer, offset: number): Promise<void> {
    const refusal = this.faults.next(this.kindsOf(offset, bytes.length));
    if (refusal === undefined) {
      this.change(bytes, offset);
      return Promise.resolve();
    }
    const done = Math.floor(bytes.length / 2 / SECTOR) * SECTOR;
    if ((this.faults.fault?.number ?? 0) % 2 === 1) this.change(bytes.subarray(0, done), offset);
    return Promise.reject(refusal);
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.write(Buffer.alloc(length), offset);
  }

  discard(offset: number, length: number): Promise<void> {
    this.bytes.fill(0, offset, Math.min(this.size, offset + length));
    return Promise.resolve();
  }

  flush(): Promise<void> {
    const refusal = this.faults.next(['flush']);
    return refusal === undefined ? Promise.resolve() : Promise.reject(refusal);
  }

  resize(size: number): Promise<void> {
    const refusal = size > this.size ? this.faults.next(['write', 'allocation']) : this.faults.refusal;
    if (refusal !== undefined) return Promise.reject(refusal);
    if (size < this.size) this.bytes.fill(0, size, this.size);
    this.size = size;
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private kindsOf(offset: number, length: number): Fault['kind'][] {
    return offset + length > this.size ? ['write', 'allocation'] : ['write'];
  }

  private change(bytes: Buffer, offset: number): void {
    if (bytes.length === 0) return;
    if (offset + bytes.length > this.bytes.length)
      this.bytes = Buffer.concat([this.bytes, Buffer.alloc(ROOM + bytes.length)]);
    bytes.copy(this.bytes, offset);
    this.size = Math.max(this.size, offset + bytes.length);
  }
}

/** A driver whose nodes are these disks, by node-name. */
export function faultyDriver(disks: Readonly<Record<string, FaultyDisk>>) {
  return defineDriver({
    name: 'faulty-image',
    kind: 'protocol',
    summary: 'A disk in memory that refuses requests as asked',
    options: {},
    children: {},
    open: (context) => Promise.resolve(disks[context.nodeName] ?? Promise.reject(new Error('no such disk'))),
  });
}
