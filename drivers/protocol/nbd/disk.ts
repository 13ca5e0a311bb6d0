import type { RequestDriver } from '../../../src/block/driver.ts';
import { WriteFlag, ZeroFlag } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { alignDown } from '../../../src/util/sizes.ts';
import type { NbdRequest } from './connection.ts';
import type { ExportFacts } from './handshake.ts';
import type { Link } from './link.ts';
import { StatusCache } from './status-cache.ts';
import { Command, CommandFlag, ExportFlag } from './wire.ts';

const TRANSFER_MAX = 32 * 1024 * 1024;
const LENGTH_MAX = 2 ** 31;
const SECTOR = 512;

export interface DiskSetup {
  readonly filename: string;
  readonly readOnly: boolean;
  /** The context shows something else than what is stored: then nothing is read. */
  readonly showsBitmap: boolean;
}

/** An export of an NBD server. */
export class NbdDisk implements RequestDriver {
  readonly family = 'request';
  readonly size: number;
  readonly limits: Limits;
  readonly readOnly: boolean;
  readonly filename: string;
  private readonly link: Link;
  private readonly facts: ExportFacts;
  private readonly status: StatusCache;
  private readonly setup: DiskSetup;
  /** Writes that were acknowledged, and how many of them a flush has covered. */
  private written = 0;
  private flushed = 0;
  private lostWrites = false;

  constructor(link: Link, setup: DiskSetup) {
    this.link = link;
    this.facts = link.facts;
    this.setup = setup;
    this.size = this.facts.size;
    this.filename = setup.filename;
    this.readOnly = setup.readOnly || this.can(ExportFlag.readOnly);
    this.limits = limitsOf(this.facts);
    this.status = new StatusCache(this.size, setup.showsBitmap);
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    if (this.setup.showsBitmap) {
      const text = `Cannot read from "${this.filename}": x-dirty-bitmap is set, the node shows a bitmap only`;
      return Promise.reject(new BlockError('EPERM', text));
    }
    return this.link.run('read from', (connection) =>
      connection.run({ command: Command.read, offset, length: bytes.length, target: bytes }),
    );
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    this.refuseGrowing(offset + bytes.length);
    const fua = (flags & WriteFlag.fua) !== 0;
    await this.changing(fua, (commandFlags) => ({
      command: Command.write,
      flags: commandFlags,
      offset,
      length: bytes.length,
      payload: bytes,
    }));
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    const fast = (flags & ZeroFlag.noFallback) !== 0;
    if (!this.can(ExportFlag.writeZeroes) || (fast && !this.can(ExportFlag.fastZero)))
      throw new BlockError('ENOTSUP', `Cannot write zeroes to "${this.filename}": the server can't`);
    this.refuseGrowing(offset + length);
    const noHole = (flags & ZeroFlag.mayUnmap) === 0 ? CommandFlag.noHole : 0;
    const more = noHole | (fast ? CommandFlag.fastZero : 0);
    await this.changing((flags & ZeroFlag.fua) !== 0, (commandFlags) => ({
      command: Command.writeZeroes,
      flags: commandFlags | more,
      offset,
      length,
    }));
  }

  async discard(offset: number, length: number): Promise<void> {
    if (!this.can(ExportFlag.trim)) return;
    await this.changing(false, (flags) => ({ command: Command.trim, flags, offset, length }));
  }

  async flush(): Promise<void> {
    if (this.lostWrites) this.refuseFlush();
    if (!this.can(ExportFlag.flush)) return;
    const covered = this.written;
    await this.link.run('flush', (connection) =>
      connection.run({ command: Command.flush, offset: 0, length: 0 }),
    );
    if (this.lostWrites) this.refuseFlush();
    this.flushed = Math.max(this.flushed, covered);
  }

  /**
   * The connection was lost. A flush on the next one covers what was written on this one only where the server says
   * that its connections are one.
   */
  wasLost(): void {
    const isCovered = !this.can(ExportFlag.flush) || this.can(ExportFlag.canMultiConn);
    if (this.written > this.flushed && !isCovered) this.lostWrites = true;
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (this.facts.contextId === undefined) return out.setData(undefined, offset, max, !this.readOnly);
    return this.status.answer(offset, max, out);
  }

  async loadStatus(): Promise<void> {
    const { wanted } = this.status;
    const unit = this.limits.requestAlignment;
    const offset = alignDown(wanted.offset, unit);
    const length = Math.min(this.size - offset, LENGTH_MAX);
    const generation = this.status.begin();
    let taken = false;
    await this.link.run('ask the status of', (connection) =>
      connection.run({
        command: Command.blockStatus,
        offset,
        length,
        status: (pairs) => {
          taken = this.status.take(pairs, { offset, length }, generation) || taken;
        },
      }),
    );
    if (!taken) this.status.giveUp(generation);
    this.status.renew();
  }

  close(): Promise<void> {
    this.link.close();
    return Promise.resolve();
  }

  private can(flag: number): boolean {
    return (this.facts.flags & flag) !== 0;
  }

  /** Sends a change; where the server knows no FUA a flush follows. */
  private async changing(fua: boolean, request: (flags: number) => NbdRequest): Promise<void> {
    const knowsFua = this.can(ExportFlag.fua);
    this.status.forget();
    try {
      await this.link.run('write to', (connection) =>
        connection.run(request(fua && knowsFua ? CommandFlag.fua : 0)),
      );
    } finally {
      this.status.forget();
    }
    if (fua && knowsFua) return;
    this.written += 1;
    if (fua) await this.flush();
  }

  /** Until the disk is opened anew: whether those writes are stored can't be found out. */
  private refuseFlush(): never {
    const why =
      'the connection was lost with writes that were not flushed, whether they are stored is not known';
    throw new BlockError('EIO', `Cannot flush "${this.filename}": ${why}`);
  }

  private refuseGrowing(end: number): void {
    if (end <= this.size) return;
    const why = `it has ${this.size} bytes, an NBD export can't grow`;
    throw new BlockError('ENOSPC', `Cannot write to "${this.filename}": ${why}`);
  }
}

function limitsOf({ minBlock, maxBlock, size }: ExportFacts): Limits {
  const unit = minBlock > 0 ? minBlock : size % SECTOR === 0 ? SECTOR : 1;
  const most = alignDown(maxBlock > 0 ? Math.min(TRANSFER_MAX, maxBlock) : TRANSFER_MAX, unit);
  const longest = alignDown(LENGTH_MAX - 1, unit);
  return limits({
    requestAlignment: unit,
    maxTransfer: most,
    zeroesAlignment: unit,
    maxZeroes: longest,
    discardAlignment: unit,
    maxDiscard: longest,
  });
}
