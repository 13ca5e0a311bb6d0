import type { Child } from '../../../src/block/child.ts';
import type { RequestDriver } from '../../../src/block/driver.ts';
import { BlockError, errnoOf } from '../../../src/block/errors.ts';
import { limits } from '../../../src/block/limits.ts';
import { Permission } from '../../../src/block/permissions.ts';
import type { PermissionPair } from '../../../src/block/permissions.ts';
import { RangeLocks } from '../../../src/block/ranges.ts';
import { countVotes } from './vote.ts';
import type { Version } from './vote.ts';

const SECTOR = 512;

export interface QuorumRules {
  /** Disks that must agree on a read, and that a write must reach. */
  readonly threshold: number;
  readonly fifo: boolean;
  readonly rewrite: boolean;
}

export type EventSink = (name: string, data: Readonly<Record<string, unknown>>) => void;

interface Request {
  readonly type: 'read' | 'write' | 'flush';
  readonly offset: number;
  readonly length: number;
}

/** A write goes to all disks; a read asks all, or in `fifo` mode one after the other until one answers. */
export class Quorum implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  private children: readonly Child[];
  private readonly rules: QuorumRules;
  private readonly node: string;
  private readonly event: EventSink;
  /** A vote between the parts of a write would find disks wrong that are not, and correct them. */
  private readonly locks = new RangeLocks();

  constructor(children: readonly Child[], rules: QuorumRules, node: string, event: EventSink) {
    this.children = children;
    this.rules = rules;
    this.node = node;
    this.event = event;
  }

  get size(): number {
    return this.children[0]?.size ?? 0;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.rules.fifo && this.children[0]?.tryRead(bytes, at, length, offset) === true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    const request: Request = { type: 'read', offset, length: bytes.length };
    if (this.rules.fifo) await this.readFirst(bytes, request);
    else await this.held(request, () => this.readByVote(bytes, request));
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    await this.all({ type: 'write', offset, length: bytes.length }, (child) =>
      child.write(bytes, offset, flags),
    );
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.all({ type: 'write', offset, length }, (child) => child.writeZeroes(offset, length, flags));
  }

  async flush(): Promise<void> {
    await this.all({ type: 'flush', offset: 0, length: this.size }, (child) => child.flush());
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    await this.all({ type: 'write', offset: size, length: 0 }, (child) => child.resize(size, shrink));
  }

  childrenChanged(children: readonly Child[]): void {
    const refuse = (why: string): never => {
      throw new BlockError('EINVAL', `Cannot change the children of "${this.node}": ${why}`);
    };
    const { threshold } = this.rules;
    if (children.length < threshold)
      refuse(`${children.length} would be left, ${threshold} must agree (vote-threshold)`);
    const odd = children.find(({ size }) => size !== children[0]?.size);
    if (odd !== undefined)
      refuse(`"${odd.node.name}" has ${odd.size} bytes, the others ${children[0]?.size}`);
    this.children = children;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  adjustPermissions(_child: string, pair: PermissionPair): PermissionPair {
    return this.rules.rewrite ? { used: pair.used | Permission.write, shared: pair.shared } : pair;
  }

  /** Writes alone, reads together; but a read that may have to correct something is like a write. */
  private async held(request: Request, run: () => Promise<void>): Promise<void> {
    const { type, offset, length } = request;
    if (this.rules.fifo || type === 'flush') return run();
    const exclusive = type === 'write' || this.rules.rewrite;
    const lock = await this.locks.acquire(offset, length, exclusive);
    try {
      await run();
    } finally {
      lock.release();
    }
  }

  private async readFirst(bytes: Buffer, request: Request): Promise<void> {
    let last: unknown;
    for (const child of this.children) {
      try {
        await child.read(bytes, request.offset);
        return;
      } catch (error) {
        this.reportBad(child, request, error);
        last = error;
      }
    }
    throw last;
  }

  private async readByVote(bytes: Buffer, request: Request): Promise<void> {
    const answers = this.children.map(() => Buffer.allocUnsafe(bytes.length));
    const outcomes = await Promise.allSettled(
      this.children.map((child, index) => child.read(answers[index] ?? bytes, request.offset)),
    );
    const good = this.sortOut(outcomes, request);
    const versions = countVotes(answers.map((answer, index) => (good[index] === true ? answer : undefined)));
    const [winner] = versions;
    if (winner === undefined || winner.voters.length < this.rules.threshold)
      this.fail(request, `only ${winner?.voters.length ?? 0} disks agree, ${this.rules.threshold} must`);
    winner.bytes.copy(bytes);
    if (versions.length > 1) await this.outvote(winner, versions.slice(1), request);
  }

  /** Those who have something else are told of, and corrected if that was asked for. */
  private async outvote(winner: Version, losers: readonly Version[], request: Request): Promise<void> {
    for (const voter of losers.flatMap(({ voters }) => voters)) {
      const child = this.children[voter];
      if (child === undefined) continue;
      this.reportBad(child, request, undefined);
      if (!this.rules.rewrite) continue;
      await child.write(winner.bytes, request.offset).catch((error: unknown) => {
        this.reportBad(child, { ...request, type: 'write' }, error);
      });
    }
  }

  private async all(request: Request, run: (child: Child) => Promise<void>): Promise<void> {
    await this.held(request, async () => {
      this.sortOut(await Promise.allSettled(this.children.map(run)), request);
    });
  }

  /** Which disks did it; throws what most of the others said when they are fewer than it takes. */
  private sortOut(outcomes: readonly PromiseSettledResult<void>[], request: Request): boolean[] {
    const errors = new Map<string, { count: number; error: unknown }>();
    for (const [index, outcome] of outcomes.entries()) {
      const child = this.children[index];
      if (outcome.status === 'fulfilled' || child === undefined) continue;
      this.reportBad(child, request, outcome.reason);
      const code = errnoOf(outcome.reason);
      errors.set(code, { count: (errors.get(code)?.count ?? 0) + 1, error: outcome.reason });
    }
    const good = outcomes.map(({ status }) => status === 'fulfilled');
    if (good.filter(Boolean).length >= this.rules.threshold) return good;
    this.reportFailure(request);
    const [most] = [...errors.values()].sort((a, b) => b.count - a.count);
    throw most?.error;
  }

  private fail(request: Request, why: string): never {
    this.reportFailure(request);
    throw new BlockError('EIO', `Cannot ${request.type} "${this.node}": ${why}`, { node: this.node });
  }

  private reportBad(child: Child, request: Request, error: unknown): void {
    this.event('QUORUM_REPORT_BAD', {
      type: request.type,
      ...(error instanceof Error ? { error: error.message } : {}),
      'node-name': child.node.name,
      ...sectors(request),
    });
  }

  private reportFailure(request: Request): void {
    this.event('QUORUM_FAILURE', { reference: this.node, ...sectors(request) });
  }
}

function sectors({ offset, length }: Request): Record<string, number> {
  const first = Math.floor(offset / SECTOR);
  return { 'sector-num': first, 'sectors-count': Math.ceil((offset + length) / SECTOR) - first };
}
