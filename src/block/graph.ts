import type { ChildParent } from './child.ts';
import { Child } from './child.ts';
import type { DirtyBitmap } from './dirty-bitmap.ts';
import type { Driver } from './driver.ts';
import { holdIfDrained, withDrained } from './drain.ts';
import { BlockError } from './errors.ts';
import { nodesToRetry } from './allow-writing.ts';
import type { Gate } from './gate.ts';
import { Gate as DefaultGate } from './gate.ts';
import type { Node } from './node.ts';
import { Opener } from './open.ts';
import type { OptionsTree } from './options.ts';
import { expandDotted, takeAll } from './options.ts';
import { isIdentifier } from './objects.ts';
import type { GraphObject, ObjectType } from './objects.ts';
import type { PermissionPair, Roles } from './permissions.ts';
import { ALL_PERMISSIONS, Permission, Role } from './permissions.ts';
import { reopenNodes } from './reopen.ts';
import type { ReopenRequest } from './reopen.ts';
import { addListed, moveEdges, removeListed, replaceNode, setBacking, setChild } from './rewire.ts';
import { DEFAULT_SECRET, Secrets } from './secrets.ts';
import type { AskSecret } from './secrets.ts';
import { OBJECT_TYPES } from './object-types.ts';
import { applyPermissions } from './transaction.ts';
import { Serial } from '../util/serial.ts';
import type { UnpackService } from '../util/unpack-service.ts';

export interface GraphSetup {
  readonly drivers: readonly Driver[];
  readonly gate?: Gate;
  /** The protocol driver for a plain file name: `file`, or `host_device` for a block device. */
  readonly protocolFor?: (filename: string) => string;
  /** Full names of the files in the folder of `filename`, sorted: where formats look for a parent that they can't name. */
  readonly siblings?: (filename: string) => readonly string[];
  /** Something the user should know though it is no error. */
  readonly warn?: (message: string) => void;
  /** Something happened that a monitor is told of: QEMU's name of the event and its data. */
  readonly event?: (name: string, data: Readonly<Record<string, unknown>>) => void;
  /** The content of a file of settings (blkdebug's rules). */
  readonly readText?: (filename: string) => Promise<string>;
  /** Where compressed data is unpacked that Node has no code for; on this thread when left out. */
  readonly unpacker?: UnpackService;
  /** Why a node may not be opened with a driver in this mode, in words; undefined: it may. */
  readonly refuseDriver?: (driver: string, readOnly: boolean) => string | undefined;
  /** Asks the user for the key of an encrypted image that was given none; rejects when that can't be. */
  readonly askSecret?: AskSecret;
  /** Encrypted images are opened without a key as well: their headers and tables can be read, their content can't. */
  readonly openLocked?: boolean;
  /** What `addObject` can make; throttle groups when left out. */
  readonly objectTypes?: readonly ObjectType[];
}

/** Somebody outside the graph who holds a node: an export, a job, a command. */
export interface RootRequest extends Partial<PermissionPair> {
  readonly name: string;
  /** For messages; `export "name"` when left out. */
  readonly label?: string;
  readonly hooks?: Pick<ChildParent, 'drainBegin' | 'drained' | 'drainEnd'>;
}

/** The nodes of one process by name, and every change of them. */
export class Graph {
  readonly nodes = new Map<string, Node>();
  readonly drivers: ReadonlyMap<string, Driver>;
  readonly secrets = new Secrets();
  /** Throttle groups and the like, by id. */
  readonly objects = new Map<string, GraphObject>();
  readonly gate: Gate;
  readonly setup: GraphSetup;
  /** Nodes that stay open without a parent: those the user named or opened at the top. */
  private readonly pinned = new Set<Node>();
  private readonly roots = new Set<Child>();
  private readonly opener: Opener;
  /** Changes of edges and options: one at a time, each sees the graph as the one before left it. */
  private readonly changes = new Serial();

  constructor(setup: GraphSetup) {
    this.setup = setup;
    this.drivers = new Map(setup.drivers.map((driver) => [driver.name, driver]));
    this.gate = setup.gate ?? new DefaultGate();
    this.opener = new Opener(this);
  }

  /** Opens a node and all below it from an options tree (nested or dotted). It stays until `remove` or `close`. */
  async open(options: OptionsTree): Promise<Node> {
    const node = await this.opener.openTree(expandDotted(options), { roles: 0, ancestors: [] });
    this.pinned.add(node);
    return node;
  }

  /** Opens an image by its file name; the format is probed unless given. `options` are those of the format node. */
  async openImage(filename: string, format?: string, options: OptionsTree = {}): Promise<Node> {
    const node = await this.opener.openFile(filename, format, expandDotted(options), {
      roles: 0,
      ancestors: [],
    });
    this.pinned.add(node);
    return node;
  }

  node(name: string): Node {
    const node = this.nodes.get(name);
    if (node === undefined)
      throw new BlockError('ENOENT', `Cannot find node "${name}": there is none of that name`);
    return node;
  }

  /** Contract: OpenContext.secret. With `isNew` the key is only about to become one: a typing error would lock it for ever. */
  async secret(id: string | undefined, subject: string, isNew = false): Promise<Buffer | undefined> {
    const name = id ?? DEFAULT_SECRET;
    const given = this.secrets.get(name) ?? this.objects.get(name)?.secret;
    const secret = given ?? (id === undefined ? this.secrets.typed(subject) : undefined);
    if (secret !== undefined) return secret;
    const refuse = (why: string): never => {
      throw new BlockError('ENOKEY', `Cannot unlock "${subject}": ${why}`);
    };
    if (id !== undefined) return refuse(`there is no secret with id "${id}"`);
    if (this.setup.openLocked === true) return undefined;
    if (this.setup.askSecret === undefined) return refuse('it is encrypted, and no key was given');
    return this.secrets.keep(subject, await this.setup.askSecret(subject, isNew));
  }

  get objectTypes(): readonly ObjectType[] {
    return this.setup.objectTypes ?? OBJECT_TYPES;
  }

  /** Makes an object from its options (nested or dotted) under an id of its own. */
  addObject(typeName: string, id: string, options: OptionsTree = {}): GraphObject {
    const types = this.objectTypes;
    const type = types.find(({ name }) => name === typeName);
    const refuse = (why: string): never => {
      throw new BlockError('EINVAL', `Cannot make object "${id}": ${why}`);
    };
    if (!isIdentifier(id)) refuse('its id must be a letter, then letters, digits, "-", "." or "_"');
    if (type === undefined)
      return refuse(`unknown type "${typeName}", known are ${types.map(({ name }) => name).join(', ')}`);
    if (this.objects.has(id)) refuse('there is one with that id already');
    const object = type.create(id, takeAll(expandDotted(options), type.options, `${typeName} "${id}"`));
    this.objects.set(id, object);
    return object;
  }

  /** Refused while somebody uses it. */
  removeObject(id: string): void {
    const object = this.objects.get(id);
    if (object === undefined)
      throw new BlockError('ENOENT', `Cannot remove object "${id}": there is none with that id`);
    const user = object.user();
    if (user !== undefined) throw new BlockError('EBUSY', `Cannot remove object "${id}": ${user} uses it`);
    this.objects.delete(id);
    object.secret?.fill(0);
  }

  object(type: string, id: string, subject: string): GraphObject {
    const object = this.objects.get(id);
    if (object?.type === type) return object;
    const why = object === undefined ? 'there is none with that id' : `it is a ${object.type}`;
    throw new BlockError('ENOENT', `Cannot open node "${subject}": no ${type} "${id}", ${why}`);
  }

  /** Contract: OpenContext.bitmap. */
  bitmap(node: string, name: string): DirtyBitmap {
    const bitmap = this.node(node).watch?.bitmaps.get(name);
    const user = bitmap?.inconsistent === true ? undefined : bitmap?.user;
    const why =
      bitmap === undefined ? 'not found' : user === undefined ? 'is inconsistent' : `is in use by ${user}`;
    if (bitmap === undefined || bitmap.inconsistent || user !== undefined)
      throw new BlockError('EINVAL', `Dirty bitmap '${name}' of node "${node}" ${why}`);
    return bitmap;
  }

  async readText(filename: string, subject: string): Promise<string> {
    if (this.setup.readText !== undefined) return this.setup.readText(filename);
    throw new BlockError('ENOTSUP', `Cannot read "${filename}" for "${subject}": no files of settings here`);
  }

  /** Hands out a door to a node. Throws, nothing changed, when the permissions conflict with those of others. */
  attachRoot(node: Node, request: RootRequest): Child {
    const { hooks } = request;
    const label = request.label ?? `export "${request.name}"`;
    const parent: ChildParent =
      hooks === undefined
        ? { label, parentNode: undefined }
        : {
            label,
            parentNode: undefined,
            drainBegin: () => hooks.drainBegin?.(),
            drained: async () => hooks.drained?.(),
            drainEnd: () => hooks.drainEnd?.(),
          };
    const pair = { used: request.used ?? 0, shared: request.shared ?? ALL_PERMISSIONS };
    const child = this.attach(node, { name: request.name, parent, roles: Role.primary }, pair);
    this.roots.add(child);
    holdIfDrained(child);
    return child;
  }

  /** Changes what a root child uses and shares, as one transaction. */
  setRootPermissions(child: Child, pair: PermissionPair): void {
    applyPermissions([child.node], new Map([[child, pair]]));
  }

  /** Gives a door back; closes what nobody needs any more. Rejects with the first error of a close. */
  async detach(child: Child): Promise<void> {
    this.roots.delete(child);
    this.unlink(child);
    await this.closeUnused(child.node);
  }

  /** Closes a node that the user opened; refused while it has parents. */
  async remove(name: string): Promise<void> {
    const node = this.node(name);
    const [edge] = node.parents;
    if (edge !== undefined) {
      throw new BlockError('EBUSY', `Cannot remove node "${name}": ${edge.parent.label} uses it`);
    }
    this.pinned.delete(node);
    await this.closeUnused(node);
  }

  /** Closes everything, parents first. All nodes are closed even when some fail; rejects with the first error. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const child of [...this.roots])
      await this.detach(child).catch((error: unknown) => errors.push(error));
    for (const node of [...this.pinned]) {
      this.pinned.delete(node);
      await this.closeUnused(node).catch((error: unknown) => errors.push(error));
    }
    this.secrets.wipe();
    for (const { secret } of this.objects.values()) secret?.fill(0);
    if (errors.length > 0) throw errors[0];
  }

  /**
   * Puts `to` where `from` is, for every parent that `to` does not stand on itself: insert and remove filters, overlays.
   * `from` is closed when nobody needs it then.
   */
  async replace(from: Node, to: Node): Promise<void> {
    await this.change([from, to], () => {
      replaceNode(from, to);
    });
    await this.closeUnused(from);
  }

  /** Another backing node, or none; the old one is closed if nobody else needs it. */
  async setBacking(node: Node, to: Node | undefined): Promise<void> {
    const old = await this.change(to === undefined ? [node] : [node, to], () => setBacking(node, to));
    if (old !== undefined) await this.closeUnused(old);
  }

  /** Makes one child of a node another node, or none; what nobody needs any more is closed. */
  async setChild(node: Node, name: string, to: Node | undefined): Promise<void> {
    const nodes = to === undefined ? [node] : [node, to];
    const roles = node.driver.children[name]?.roles ?? 0;
    if (to !== undefined && !node.readOnly && (roles & Role.cow) === 0) await this.allowWriting(to);
    const old = await this.change(nodes, () => setChild({ node, name, to }));
    if (old !== undefined) await this.closeUnused(old);
  }

  /** One more child for a node that has a list of them (quorum). Resolves to its name. */
  async addChild(node: Node, to: Node): Promise<string> {
    return this.change([node, to], () => addListed(node, to));
  }

  /** One child of a list less; it is closed if nobody else needs it. */
  async removeChild(node: Node, name: string): Promise<void> {
    const old = await this.change([node], () => removeListed(node, name));
    await this.closeUnused(old);
  }

  /** Makes a node, and what it inherits to, writable or read-only; all its other options stay. Nothing to do is no error. */
  async setReadOnly(node: Node, readOnly: boolean): Promise<void> {
    const { common, options } = node;
    if (common.readOnly === readOnly) return;
    const kept = {
      'read-only': readOnly,
      'auto-read-only': common.autoReadOnly,
      'force-share': common.forceShare,
      discard: common.discard,
      'detect-zeroes': common.detectZeroes,
      cache: { direct: common.cacheDirect, 'no-flush': common.cacheNoFlush },
    };
    await this.reopen([{ node, options: { ...options, ...kept }, keepsChildren: true }]);
  }

  /**
   * Before somebody comes who writes to a node: what is read-only below it because it could not be written when it was opened,
   * and may decide that itself (auto-read-only), tries again. Whether that has helped is seen from `readOnly`.
   */
  async allowWriting(node: Node): Promise<void> {
    const nodes = nodesToRetry(node);
    if (nodes.length === 0) return;
    await this.reopen(nodes.map((each) => ({ node: each, options: each.options, keepsChildren: true })));
  }

  /** Puts a node behind a root door instead of the one that is there; everybody else keeps theirs. */
  async moveRoot(root: Child, to: Node): Promise<void> {
    const from = root.node;
    if ((root.used & Permission.write) !== 0) await this.allowWriting(to);
    await this.change([from, to], () => {
      moveEdges([root], to);
    });
    await this.closeUnused(from);
  }

  /** Whether the node stays without a parent until `remove`. */
  isOwned(node: Node): boolean {
    return this.pinned.has(node);
  }

  /** The node stays only as long as it has parents. */
  disown(node: Node): void {
    this.pinned.delete(node);
  }

  /** Other options and children for nodes that are in use, all of them or none. */
  async reopen(requests: readonly ReopenRequest[]): Promise<void> {
    const nodes = requests.map(({ node }) => node);
    for (const { node, options } of requests) this.refuseWriting(node, options);
    const find = (name: string): Node => this.node(name);
    const losers = await this.change(nodes, () =>
      reopenNodes(
        requests.map((request) => ({ ...request, options: expandDotted(request.options) })),
        find,
      ),
    );
    for (const node of losers) await this.closeUnused(node);
  }

  /**
   * Runs a change of the graph with nothing under way above `nodes`, after any other change. For what one call above can't
   * say: several changes as one (rewire.ts).
   */
  async change<T>(nodes: readonly Node[], run: () => T | Promise<T>): Promise<T> {
    return this.changes.run(async () => {
      for (const node of nodes) this.requireOpen(node);
      return withDrained(nodes, () => {
        for (const node of nodes) this.requireOpen(node);
        return run();
      });
    });
  }

  /** For the opener and the graph's own changes: a new edge with its permissions, or nothing at all. */
  attach(node: Node, edge: { name: string; parent: ChildParent; roles: Roles }, pair: PermissionPair): Child {
    this.requireOpen(node);
    const child = new Child({ ...edge, node });
    node.parents.add(child);
    try {
      applyPermissions([node], new Map([[child, pair]]));
    } catch (error) {
      node.parents.delete(child);
      throw error;
    }
    return child;
  }

  /** For the opener: takes an edge away and gives its permissions back. */
  unlink(child: Child): void {
    child.node.parents.delete(child);
    applyPermissions([child.node]);
  }

  async closeUnused(node: Node): Promise<void> {
    if (node.parents.size > 0 || this.pinned.has(node) || this.nodes.get(node.name) !== node) return;
    this.nodes.delete(node.name);
    await node.idle();
    const errors: unknown[] = [];
    await node.impl.close?.().catch((error: unknown) => errors.push(error));
    for (const child of node.children.values()) {
      this.unlink(child);
      await this.closeUnused(child.node).catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw errors[0];
  }

  private refuseWriting(node: Node, options: OptionsTree): void {
    const readOnly = options['read-only'] === true || options['read-only'] === 'on';
    const refused = this.setup.refuseDriver?.(node.driver.name, readOnly);
    if (refused !== undefined) throw new BlockError('EPERM', `Cannot reopen ${node.label}: ${refused}`);
  }

  private requireOpen(node: Node): void {
    if (this.nodes.get(node.name) === node) return;
    throw new BlockError('ENOENT', `Cannot use node "${node.name}": it is closed`);
  }
}
