/** From an options tree to open nodes: children first, then the driver, then the permissions of the whole. */
import debug from 'debug';
import { namedError, openCandidate } from './candidates.ts';
import type { Child, ChildParent } from './child.ts';
import type { Driver, ImageReference, OpenContext, OpenDriver } from './driver.ts';
import { BlockError, withContext } from './errors.ts';
import { HeadGuard } from './head-guard.ts';
import type { Graph } from './graph.ts';
import { Node } from './node.ts';
import { isTree, resolveCommon, takeCommon, takeDeclared, takeOption } from './options.ts';
import type { OptionsTree } from './options.ts';
import { childPermissions } from './permission-defaults.ts';
import { ALL_PERMISSIONS, Permission } from './permissions.ts';
import type { Roles } from './permissions.ts';
import { probeFormat } from './probe.ts';
import type { CommonOptions } from './schema.ts';
import { applyPermissions } from './transaction.ts';

const log = debug('blockfuse:graph');

/** What a node being opened gets from the one that wants it. */
export interface Heritage {
  readonly common?: CommonOptions;
  readonly roles: Roles;
  /** File names of the images above, nearest first: depth and loops are judged by them. */
  readonly ancestors: readonly string[];
}

/** The parent of the edges below a node that is still being opened; afterwards the node stands behind it. */
class FutureNode implements ChildParent {
  node: Node | undefined = undefined;
  readonly label: string;

  constructor(label: string) {
    this.label = label;
  }

  get parentNode(): Node | undefined {
    return this.node;
  }
}

/** One node on its way: what is known and held so far. */
interface Opening {
  readonly name: string;
  readonly driver: Driver;
  readonly parent: FutureNode;
  readonly children: Map<string, Child>;
  /** What is left of the options: children given by the user. */
  readonly tree: OptionsTree;
  readonly given: OptionsTree;
  common: CommonOptions;
  readonly heritage: Heritage;
}

type ChildValue = Node | OptionsTree | string;

export class Opener {
  private readonly graph: Graph;
  private readonly reserved = new Set<string>();
  private autoNames = 0;

  constructor(graph: Graph) {
    this.graph = graph;
  }

  /** Opens the node that an options tree describes. Nothing stays behind when it rejects. */
  async openTree(given: OptionsTree, heritage: Heritage): Promise<Node> {
    const tree = structuredClone(given);
    const driverName = takeOption(tree, 'driver');
    if (driverName === undefined) return this.openUndeclared(tree, heritage);
    const driver = this.driver(driverName);
    return this.openWith(driver, tree, given, heritage);
  }

  /** Opens a plain file name: protocol node, format (probed when undefined), format node. */
  async openFile(
    filename: string,
    format: string | undefined,
    tree: OptionsTree,
    heritage: Heritage,
  ): Promise<Node> {
    const protocol = this.parseFilename(filename);
    if (format !== undefined) return this.openTree({ ...tree, driver: format, file: protocol }, heritage);
    const common = resolveCommon(
      takeCommon(structuredClone(tree), `"${filename}"`),
      heritage.common,
      heritage.roles,
    );
    const below: Heritage = { common, roles: 0, ancestors: heritage.ancestors };
    const file = await this.openTree(protocol, below);
    try {
      const probed = await this.probe(file, filename);
      log('%s: probed as %s', filename, probed);
      const node = await this.openWith(this.driver(probed), structuredClone(tree), tree, heritage, file);
      if (probed === 'raw') node.guard = new HeadGuard(this.graph.drivers.values(), filename);
      return node;
    } catch (error) {
      await this.graph.closeUnused(file).catch(() => {});
      throw error;
    }
  }

  private async openUndeclared(tree: OptionsTree, heritage: Heritage): Promise<Node> {
    const { filename, file, ...rest } = tree;
    if (typeof filename === 'string' && file === undefined)
      return this.openFile(filename, undefined, rest, heritage);
    if (isTree(file) && typeof file['filename'] === 'string' && Object.keys(file).length === 1) {
      return this.openFile(file['filename'], undefined, rest, heritage);
    }
    throw new BlockError('EINVAL', 'Cannot open a node: option "driver" is missing');
  }

  private async openWith(
    driver: Driver,
    tree: OptionsTree,
    given: OptionsTree,
    heritage: Heritage,
    file?: Node,
  ): Promise<Node> {
    const common = takeCommon(tree, `node with driver "${driver.name}"`);
    const name = this.reserve(common['node-name']);
    const opening: Opening = {
      name,
      driver,
      parent: new FutureNode(`node "${name}"`),
      children: new Map(),
      tree,
      given,
      common: resolveCommon(common, heritage.common, heritage.roles),
      heritage,
    };
    try {
      if (opening.common.forceShare && !opening.common.readOnly) {
        throw new BlockError('EINVAL', `Cannot open node "${name}": force-share needs read-only=on`);
      }
      return await this.openNode(opening, file);
    } catch (error) {
      for (const child of opening.children.values()) {
        this.graph.unlink(child);
        await this.graph.closeUnused(child.node).catch(() => {});
      }
      throw withContext(error, { node: name });
    } finally {
      this.reserved.delete(name);
    }
  }

  private async openNode(opening: Opening, file: Node | undefined): Promise<Node> {
    const { driver, tree, name } = opening;
    const options = takeDeclared(tree, driver.options, `node "${name}" (driver "${driver.name}")`);
    this.adoptFilename(opening);
    for (const [child, spec] of Object.entries(driver.children)) {
      if (child === 'file' && file !== undefined) {
        this.attach(opening, child, spec.roles, file);
        continue;
      }
      if (!spec.required) continue;
      const value = takeOption(tree, child);
      if (!isChildValue(value)) {
        throw new BlockError(
          'EINVAL',
          `Cannot open node "${name}": driver "${driver.name}" needs a child "${child}"`,
        );
      }
      await this.openChild(opening, child, spec.roles, value);
    }
    this.settleReadOnly(opening);
    const impl = await driver.open(this.context(opening, options));
    return this.finish(opening, impl);
  }

  private async finish(opening: Opening, impl: OpenDriver): Promise<Node> {
    const { name, driver, children, common, given, parent, tree } = opening;
    try {
      const [unknown] = Object.keys(tree).filter((key) => !isGivenChildKey(driver, key));
      if (unknown !== undefined) {
        const known = Object.keys(driver.options).join(', ');
        const text = `Cannot open node "${name}": driver "${driver.name}" has no option "${unknown}"`;
        throw new BlockError('EINVAL', known === '' ? text : `${text}, only ${known}`);
      }
      const node = new Node({ name, driver, impl, children, common, options: given });
      parent.node = node;
      applyPermissions([node]);
      this.graph.nodes.set(name, node);
      log('opened %s: driver %s, %d bytes', name, driver.name, node.size);
      return node;
    } catch (error) {
      parent.node = undefined;
      await impl.close?.().catch(() => {});
      throw error;
    }
  }

  private context(opening: Opening, options: Record<string, unknown>): OpenContext<Record<string, unknown>> {
    const { name, driver, children, tree, common } = opening;
    const { filename } = options;
    const subject = children.get('file')?.node.filename ?? (typeof filename === 'string' ? filename : name);
    return {
      nodeName: name,
      options,
      common,
      subject,
      child: (wanted) => {
        const child = children.get(wanted);
        if (child === undefined)
          throw new BlockError('EINVAL', `Cannot open "${name}": no child "${wanted}"`);
        return child;
      },
      givenChild: (wanted) => children.get(wanted) ?? (peek(tree, wanted) === null ? null : undefined),
      openNamed: (wanted, reference) => this.openNamed(opening, wanted, reference),
      secret: (id) => this.graph.secret(id, subject),
      warn: (message) => {
        this.graph.setup.warn?.(`${driver.name} "${subject}": ${message}`);
      },
    };
  }

  private async openNamed(
    opening: Opening,
    name: string,
    reference: ImageReference,
  ): Promise<Child | undefined> {
    const value = takeOption(opening.tree, name);
    if (value === null || (value === undefined && reference.filename === '')) return undefined;
    const roles = reference.roles;
    if (typeof value === 'string') return this.openChild(opening, name, roles, value);
    if (value !== undefined && !isTree(value))
      throw new BlockError('EINVAL', `Cannot use option "${name}": not a child`);
    const given = value ?? {};
    if (given['driver'] !== undefined) return this.openChild(opening, name, roles, given);
    const heritage = this.heritage(opening, roles);
    const { filename, file, ...rest } = given;
    const override = filename ?? (isTree(file) ? file['filename'] : undefined);
    const options = reference.writable === false ? { 'read-only': true, ...rest } : rest;
    const node =
      typeof override === 'string'
        ? await this.openGiven(override, name, reference, { options, heritage })
        : await openCandidate(this.graph, name, reference, {
            ancestors: heritage.ancestors,
            open: (target) => this.openFile(target, reference.format, options, heritage),
          });
    return this.attach(opening, name, roles, node);
  }

  /** What the user gives instead of what the image names: used even when it is not what the image means. */
  private async openGiven(
    filename: string,
    name: string,
    reference: ImageReference,
    { options, heritage }: { options: OptionsTree; heritage: Heritage },
  ): Promise<Node> {
    const node = await this.openFile(filename, reference.format, options, heritage).catch(
      (error: unknown) => {
        throw namedError(error, name, reference, [filename]);
      },
    );
    const wrong = await reference.verify?.(node);
    if (wrong !== undefined) this.graph.setup.warn?.(`${name} "${filename}": ${wrong}`);
    return node;
  }

  private async openChild(opening: Opening, name: string, roles: Roles, value: ChildValue): Promise<Child> {
    if (typeof value === 'string') return this.attach(opening, name, roles, this.graph.node(value));
    const node = value instanceof Node ? value : await this.openTree(value, this.heritage(opening, roles));
    return this.attach(opening, name, roles, node);
  }

  private attach(opening: Opening, name: string, roles: Roles, node: Node): Child {
    const { driver, parent, children, common } = opening;
    const readOnly = common.readOnly || (node.readOnly && common.autoReadOnly);
    const pair = childPermissions(driver, { name, roles }, { used: 0, shared: ALL_PERMISSIONS }, readOnly);
    const used = pair.used | Permission.consistentRead;
    const child = this.graph.attach(node, { name, parent, roles }, { used, shared: pair.shared });
    children.set(name, child);
    return child;
  }

  private heritage(opening: Opening, roles: Roles): Heritage {
    const own = opening.children.get('file')?.node.filename;
    const { ancestors } = opening.heritage;
    return {
      common: opening.common,
      roles,
      ancestors: own === undefined || own === '' ? ancestors : [own, ...ancestors],
    };
  }

  /** A format over a file that can only be read is read-only itself, if it may decide that. */
  private settleReadOnly(opening: Opening): void {
    const { common } = opening;
    const file = opening.children.get('file');
    if (common.readOnly || !common.autoReadOnly || file?.node.readOnly !== true) return;
    opening.common = { ...common, readOnly: true };
  }

  /** `driver=qcow2,filename=x` means `driver=qcow2,file.filename=x`; a `file` child without driver is a plain file. */
  private adoptFilename(opening: Opening): void {
    const { driver, tree } = opening;
    if (driver.children['file'] === undefined) return;
    if (tree['file'] === undefined && typeof tree['filename'] === 'string') {
      tree['file'] = this.parseFilename(tree['filename']);
      delete tree['filename'];
    }
    const { file } = tree;
    if (!isTree(file) || file['driver'] !== undefined || typeof file['filename'] !== 'string') return;
    tree['file'] = { driver: this.graph.setup.protocolFor?.(file['filename']) ?? 'file', ...file };
  }

  private parseFilename(filename: string): OptionsTree {
    if (filename.startsWith('json:')) return parseJson(filename.slice('json:'.length));
    for (const driver of this.graph.drivers.values()) {
      if (driver.prefixes?.some((prefix) => filename.startsWith(prefix)) !== true) continue;
      return { driver: driver.name, ...driver.parseFilename?.(filename) };
    }
    return { driver: this.graph.setup.protocolFor?.(filename) ?? 'file', filename };
  }

  private async probe(file: Node, filename: string): Promise<string> {
    const probing = this.graph.attach(
      file,
      { name: 'probe', parent: { label: 'format probing', parentNode: undefined }, roles: 0 },
      { used: Permission.consistentRead, shared: ALL_PERMISSIONS },
    );
    try {
      return await probeFormat(probing, filename, this.graph.drivers.values());
    } finally {
      this.graph.unlink(probing);
    }
  }

  private driver(name: unknown): Driver {
    const driver = typeof name === 'string' ? this.graph.drivers.get(name) : undefined;
    if (driver !== undefined) return driver;
    const known = [...this.graph.drivers.keys()].sort().join(', ');
    throw new BlockError(
      'EINVAL',
      `Cannot open a node: unknown driver ${JSON.stringify(name)}, known are ${known}`,
    );
  }

  private reserve(given: unknown): string {
    const name = typeof given === 'string' ? given : this.makeName();
    if (typeof given === 'string' && !/^[A-Za-z][A-Za-z0-9\-._]{0,30}$/.test(name)) {
      const wanted = 'a letter, then at most 30 letters, digits, "-", "." or "_"';
      throw new BlockError('EINVAL', `Cannot name a node "${name}": must be ${wanted}`);
    }
    if (this.graph.nodes.has(name) || this.reserved.has(name)) {
      throw new BlockError('EEXIST', `Cannot name a node "${name}": there is one of that name already`);
    }
    this.reserved.add(name);
    return name;
  }

  private makeName(): string {
    this.autoNames += 1;
    return `#block${String(this.autoNames).padStart(3, '0')}`;
  }
}

function parseJson(text: string): OptionsTree {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BlockError('EINVAL', `Cannot read "json:${text}": ${String(error)}`);
  }
  if (isTree(value)) return value;
  throw new BlockError('EINVAL', `Cannot read "json:${text}": must be a JSON object`);
}

function isChildValue(value: unknown): value is ChildValue {
  return typeof value === 'string' || isTree(value);
}

/** A key that may stay in the tree after open: an optional child that the image did not ask for, or `backing: null`. */
function isGivenChildKey(driver: Driver, key: string): boolean {
  return Object.keys(driver.children).some((name) => name === key || name.startsWith(`${key}.`));
}

function peek(tree: OptionsTree, name: string): unknown {
  return name.split('.').reduce<unknown>((at, part) => (isTree(at) ? at[part] : undefined), tree);
}
