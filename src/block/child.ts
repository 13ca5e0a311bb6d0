import type { BlockStatus, Extent } from './extent.ts';
import type { SnapshotView } from './driver.ts';
import type { Node } from './node.ts';
import { BlockError } from './errors.ts';
import { Permission } from './permissions.ts';
import type { Permissions, Roles } from './permissions.ts';

/** Who holds a child: a node, or something outside the graph (an export, a job, a command). */
export interface ChildParent {
  /** In plain words, for messages: `node "top"`, `export "e0"`. */
  readonly label: string;
  readonly parentNode: Node | undefined;
  /** A node that is still being opened. */
  readonly isOpening?: boolean;
  /** Roots only: stop sending requests (calls are counted), and know when none is under way. See drain.ts. */
  drainBegin?(): void;
  drained?(): Promise<void>;
  drainEnd?(): void;
}

/**
 * An edge of the graph and the only door to a node: whoever does I/O holds one, with the permissions it uses and shares.
 * The graph's transactions set node, used and shared; nobody else does.
 */
export class Child {
  readonly name: string;
  readonly parent: ChildParent;
  readonly roles: Roles;
  node: Node;
  used: Permissions;
  shared: Permissions;
  /** Drained sections (drain.ts) that this door is held for: requests wait until it is 0 again. */
  private holds = 0;
  private readonly held: (() => void)[] = [];

  constructor(edge: { name: string; parent: ChildParent; roles: Roles; node: Node }) {
    this.name = edge.name;
    this.parent = edge.parent;
    this.roles = edge.roles;
    this.node = edge.node;
    this.used = 0;
    this.shared = 15;
  }

  /** Bytes. */
  get size(): number {
    return this.node.size;
  }

  /** The size is always a multiple of it. */
  get sizeUnit(): number {
    return this.node.limits.sizeUnit;
  }

  /** Fills bytes[at, at+length) without waiting; false when it would have to. Past the end: zeroes. */
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.holds === 0 && this.node.tryRead(bytes, at, length, offset);
  }

  /** Writes without waiting; false (redo it with `write`) when it would have to, or may not. */
  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if ((this.used & Permission.write) === 0 || this.holds !== 0) return false;
    if ((this.used & Permission.resize) === 0 && offset + length > this.node.size) return false;
    return this.node.tryWrite(bytes, at, length, offset);
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    if (this.holds !== 0) return this.released().then(() => this.node.read(bytes, offset));
    return this.node.read(bytes, offset);
  }

  async write(bytes: Buffer, offset: number, flags = 0): Promise<void> {
    if (this.holds !== 0) await this.released();
    await this.prepareWrite('write', offset, bytes.length);
    await this.node.write(bytes, offset, flags);
  }

  /** Writes, compressed where that is possible: whole allocation units of a format that has compression. */
  async writeCompressed(bytes: Buffer, offset: number): Promise<void> {
    if (this.holds !== 0) await this.released();
    await this.prepareWrite('write', offset, bytes.length);
    await this.node.writeCompressed(bytes, offset);
  }

  async writeZeroes(offset: number, length: number, flags = 0): Promise<void> {
    if (this.holds !== 0) await this.released();
    await this.prepareWrite('write zeroes to', offset, length);
    await this.node.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    if (this.holds !== 0) await this.released();
    this.require(Permission.write, 'discard in');
    await this.node.discard(offset, length);
  }

  async flush(): Promise<void> {
    if (this.holds !== 0) await this.released();
    await this.node.flush();
  }

  /**
   * Copies into the node itself what it reads there from its backing child, so that it no longer depends on it; content
   * does not change. Does nothing where there is no mapping. Needs write or write-unchanged.
   */
  async copyUp(offset: number, length: number): Promise<void> {
    if (this.holds !== 0) await this.released();
    this.require(Permission.write | Permission.writeUnchanged, 'copy up into');
    await this.node.copyUp(offset, length);
  }

  async resize(size: number, shrink = false): Promise<void> {
    if (this.holds !== 0) await this.released();
    this.require(Permission.resize, 'resize');
    await this.node.resize(size, shrink);
  }

  /** Makes it at least so long; whatever is written further out stays. */
  async growTo(size: number): Promise<void> {
    if (this.holds !== 0) await this.released();
    this.require(Permission.resize, 'resize');
    await this.node.growTo(size);
  }

  /** The point-in-time view that the node offers beside itself, if it does (copy-before-write). */
  get snapshot(): SnapshotView | undefined {
    return this.node.impl.snapshot;
  }

  /** What lies at `offset` in the node itself, without its backing chain. */
  tryStatus(offset: number, max: number, out: Extent): boolean {
    return this.node.tryStatus(offset, max, out);
  }

  /** What the whole chain has at `offset`. */
  async status(offset: number, max: number, out: BlockStatus): Promise<void> {
    if (this.holds !== 0) await this.released();
    await this.node.status(offset, max, out);
  }

  /** For drained sections only: requests wait from now on. Calls are counted. */
  hold(): void {
    this.holds += 1;
  }

  unhold(): void {
    this.holds -= 1;
    if (this.holds === 0) for (const wake of this.held.splice(0)) wake();
  }

  private async released(): Promise<void> {
    while (this.holds !== 0) await new Promise<void>((resolve) => this.held.push(resolve));
  }

  private async prepareWrite(action: string, offset: number, length: number): Promise<void> {
    this.require(Permission.write | Permission.writeUnchanged, action);
    const end = offset + length;
    if (end <= this.node.size) return;
    if ((this.used & Permission.resize) === 0) {
      const text = `Cannot ${action} "${this.node.name}": the request ends at ${end}, the disk at ${this.node.size}`;
      throw new BlockError('ENOSPC', text, { node: this.node.name, operation: action, offset, length });
    }
    await this.node.growFor(end);
  }

  private require(anyOf: Permissions, action: string): void {
    if ((this.used & anyOf) !== 0) return;
    const code = this.node.readOnly ? 'EROFS' : 'EPERM';
    const why = this.node.readOnly
      ? 'the node is read-only'
      : `${this.parent.label} holds it without the permission`;
    throw new BlockError(code, `Cannot ${action} "${this.node.name}": ${why}`, { node: this.node.name });
  }
}
