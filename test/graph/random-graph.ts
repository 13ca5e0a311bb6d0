/** Random changes of a graph under load, and what must hold after each. */
import type { Child, ChildParent } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import type { Node } from '../../src/block/node.ts';
import { childPermissions } from '../../src/block/permission-defaults.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { reaches } from '../../src/block/rewire.ts';
import { refuseRoles } from '../../src/block/roles.ts';
import { cumulative } from '../../src/block/transaction.ts';
import { ModelDisk, difference } from '../helpers/model-disk.ts';
import type { Random } from '../helpers/random.ts';
import { LockingDisk } from './locking-disk.ts';

export const DISK = 65536;

/** Everything about a graph that a refused change must leave as it was. */
export function shape(graph: Graph): string {
  const lines: string[] = [];
  for (const node of [...graph.nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    lines.push(
      `${node.name} ${node.driver.name} ${JSON.stringify(node.common)} ${JSON.stringify(node.options)}`,
    );
    for (const edge of node.children.values())
      lines.push(`  ${edge.name} -> ${edge.node.name} ${edge.used}/${edge.shared}`);
    const parents = [...node.parents].map(
      (edge) => `${edge.parent.label}.${edge.name} ${edge.used}/${edge.shared}`,
    );
    lines.push(...parents.sort().map((parent) => `  <- ${parent}`));
  }
  return lines.join('\n');
}

/** The lines of one shape that the other does not have. */
export function changed(before: string, after: string): string {
  const [old, now] = [before.split('\n'), after.split('\n')];
  const gone = old.filter((line) => !now.includes(line)).map((line) => `- ${line}`);
  return [...gone, ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`)].join('\n');
}

/** What is wrong with a graph; nothing, if all goes well. */
export function violations(graph: Graph): string[] {
  const wrong: string[] = [];
  for (const node of graph.nodes.values()) {
    for (const edge of node.parents) {
      if (edge.node !== node) wrong.push(`${node.name} has a parent whose edge leads to ${edge.node.name}`);
      const parent = edge.parent.parentNode;
      if (parent !== undefined && parent.children.get(edge.name) !== edge)
        wrong.push(`${parent.name} lost ${edge.name}`);
      if (parent !== undefined && graph.nodes.get(parent.name) !== parent)
        wrong.push(`${parent.name} is closed`);
      for (const other of node.parents)
        if (other !== edge && (edge.used & ~other.shared) !== 0) wrong.push(`conflict on ${node.name}`);
      if (node.readOnly && (edge.used & ~Permission.consistentRead) !== 0)
        wrong.push(`${node.name} is written to`);
    }
    wrong.push(...childViolations(graph, node), ...lockViolations(node));
  }
  return wrong;
}

/** Locks are exactly those of the permissions in force. */
function lockViolations(node: Node): string[] {
  const { impl } = node;
  if (!(impl instanceof LockingDisk)) return [];
  const { used, shared } = cumulative(node);
  if (impl.pending === 0 && impl.held.used === used && impl.held.shared === shared) return [];
  return [`${node.name} holds locks for ${impl.held.used}/${impl.held.shared}, wanted ${used}/${shared}`];
}

function childViolations(graph: Graph, node: Node): string[] {
  const wrong: string[] = [];
  const wanted = cumulative(node);
  if (node.cow !== node.children.get('backing'))
    wrong.push(`${node.name} has another backing node than child`);
  for (const edge of node.children.values()) {
    if (!edge.node.parents.has(edge)) wrong.push(`${node.name} is no parent of ${edge.node.name}`);
    if (graph.nodes.get(edge.node.name) !== edge.node)
      wrong.push(`${edge.node.name} below ${node.name} is closed`);
    if (reaches(edge.node, node)) wrong.push(`${node.name} stands on itself`);
    const pair = childPermissions(node.driver, edge, wanted, node.readOnly);
    if (pair.used !== edge.used || pair.shared !== edge.shared)
      wrong.push(
        `${node.name}.${edge.name} has ${edge.used}/${edge.shared}, wanted ${pair.used}/${pair.shared}`,
      );
    refuseRoles(node.label, node.children.values(), edge);
  }
  return wrong;
}

export interface GuestOptions {
  readonly name: string;
  readonly random: Random;
  /** Holds its requests back itself when drained, as an export does; else its door is held. */
  readonly hooked: boolean;
  /** What is on the disk at the start; zeroes when left out. */
  readonly content?: Buffer;
}

/** A disk with somebody who reads and writes it all the time and knows what is on it. */
export class Guest {
  readonly model: ModelDisk;
  readonly door: Child;
  requests = 0;
  failure: string | undefined = undefined;
  private readonly random: Random;
  private drained = 0;
  private resume: (() => void) | undefined;
  private inFlight = 0;
  private idle: (() => void) | undefined;
  private stopped = false;
  private readonly done: Promise<unknown>;

  constructor(graph: Graph, node: Node, options: GuestOptions) {
    const { name, random, hooked, content } = options;
    this.random = random;
    this.model = new ModelDisk(DISK);
    content?.copy(this.model.bytes);
    const used = Permission.consistentRead | Permission.write;
    const shared = ALL_PERMISSIONS & ~Permission.resize;
    this.door = graph.attachRoot(node, { name, used, shared, ...(hooked ? { hooks: this.hooks() } : {}) });
    this.done = Promise.all([this.work(0), this.work(1), this.work(2)]);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.done;
  }

  private hooks(): Pick<ChildParent, 'drainBegin' | 'drained' | 'drainEnd'> {
    return {
      drainBegin: () => {
        this.drained += 1;
      },
      drained: async () => {
        if (this.inFlight > 0) await new Promise<void>((resolve) => (this.idle = resolve));
      },
      drainEnd: () => {
        this.drained -= 1;
        if (this.drained === 0) this.resume?.();
      },
    };
  }

  /** Each worker has a third of the disk to itself. */
  private async work(part: number): Promise<void> {
    const third = Math.floor(DISK / 3);
    while (!this.stopped && this.failure === undefined) {
      while (this.drained > 0) await new Promise<void>((resolve) => this.chain(resolve));
      const offset = part * third + this.random.below(third - 600);
      this.inFlight += 1;
      try {
        await this.request(offset, 1 + this.random.below(600));
      } catch (error) {
        this.failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
      }
      this.requests += 1;
      this.inFlight -= 1;
      if (this.inFlight === 0) this.idle?.();
      await new Promise(setImmediate);
    }
  }

  private chain(resolve: () => void): void {
    const before = this.resume;
    this.resume = () => {
      before?.();
      this.resume = undefined;
      resolve();
    };
  }

  private async request(offset: number, length: number): Promise<void> {
    const hasty = this.random.chance(0.5);
    if (this.random.chance(0.5)) {
      const bytes = this.random.bytes(length);
      if (!hasty || !this.door.tryWrite(bytes, 0, length, offset)) await this.door.write(bytes, offset);
      this.model.write(bytes, offset);
      return;
    }
    const bytes = Buffer.alloc(length, 0xdb);
    if (!hasty || !this.door.tryRead(bytes, 0, length, offset)) await this.door.read(bytes, offset);
    const found = difference(bytes, this.model.read(offset, length), offset);
    if (found !== undefined) throw new Error(`wrong content ${found}`);
  }
}

/** Whether an error is a proper refusal. */
export function isRefusal(error: unknown): boolean {
  const codes = ['EPERM', 'EROFS', 'EINVAL', 'EEXIST', 'ENOENT', 'EBUSY', 'ENOTSUP'];
  return error instanceof BlockError && codes.includes(error.code) && error.message.startsWith('Cannot ');
}
