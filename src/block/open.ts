/** From an options tree to open nodes: children first, then the driver, then the permissions of the whole. */
import debug from 'debug';
import { ALONE, namedError, openCandidate } from './candidates.ts';
import type { Child, ChildParent } from './child.ts';
import type { Driver, ImageReference, OpenContext, OpenDriver } from './driver.ts';
import { BlockError, withContext } from './errors.ts';
import { FormatGuard } from './format-guard.ts';
import { adoptFilename, parseFilename } from './filename.ts';
import type { FilenameRules } from './filename.ts';
import type { Graph } from './graph.ts';
import { NodeNames } from './node-names.ts';
import { Node } from './node.ts';
import { isTree, peekOption, resolveCommon, takeCommon, takeDeclared, takeOption } from './options.ts';
import type { OptionsTree } from './options.ts';
import { childPermissions } from './permission-defaults.ts';
import { ALL_PERMISSIONS, Permission, Role } from './permissions.ts';
import type { Roles } from './permissions.ts';
import { probeFormat } from './probe.ts';
import { requiredChildren } from './required-children.ts';
import { refuseRoles } from './roles.ts';
import type { CommonOptions } from './schema.ts';
import { applyPermissions } from './transaction.ts';
import { unpackHere } from '../util/unpack-service.ts';

const log = debug('blockfuse:graph');

/** What a node being opened gets from the one that wants it. */
export interface Heritage {
  readonly common?: CommonOptions;
  readonly roles: Roles;
  /** File names of the images above, nearest first: depth and loops are judged by them. */
  readonly ancestors: readonly string[];
  /** It is only looked at: the user is told nothing. */
  readonly quiet?: boolean | undefined;
}

/** The parent of the edges below a node that is still being opened; afterwards the node stands behind it. */
class FutureNode implements ChildParent {
  node: Node | undefined = undefined;
  readonly label: string;
  readonly isOpening = true;

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
  /** Those of the children whose nodes were opened within this one's options. */
  readonly inline: Set<Child>;
  /** What is left of the options: children given by the user. */
  readonly tree: OptionsTree;
  readonly given: OptionsTree;
  common: CommonOptions;
  readonly heritage: Heritage;
}

type ChildValue = OptionsTree | string;

export class Opener {
  private readonly graph: Graph;
  private readonly names: NodeNames;
  private readonly rules: FilenameRules;

  constructor(graph: Graph) {
    this.graph = graph;
    this.names = new NodeNames((name) => graph.nodes.has(name));
    this.rules = { drivers: graph.drivers, protocolFor: graph.setup.protocolFor };
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
    const protocol = parseFilename(filename, this.rules);
    if (format !== undefined) return this.openTree({ ...tree, driver: format, file: protocol }, heritage);
    return this.openProbed(filename, protocol, tree, heritage);
  }

  /** The format node over a protocol node, of the format that its content shows. */
  private async openProbed(
    filename: string,
    protocol: OptionsTree,
    tree: OptionsTree,
    heritage: Heritage,
  ): Promise<Node> {
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
      if (probed === 'raw' || probed === 'split')
        file.guard = new FormatGuard([...this.graph.drivers.values()], filename);
      return await this.openWith(this.driver(probed), structuredClone(tree), tree, heritage, file);
    } catch (error) {
      await this.graph.closeUnused(file).catch(() => {});
      throw error;
    }
  }

  private async openUndeclared(tree: OptionsTree, heritage: Heritage): Promise<Node> {
    const { filename, file, ...rest } = tree;
    if (typeof filename === 'string' && file === undefined)
      return this.openFile(filename, undefined, rest, heritage);
    if (isTree(file) && typeof file['filename'] === 'string') {
      const { filename: name, ...given } = file;
      const protocol =
        given['driver'] === undefined ? { ...parseFilename(name, this.rules), ...given } : file;
      return this.openProbed(name, protocol, rest, heritage);
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
    const name = this.names.reserve(common['node-name']);
    const opening: Opening = {
      name,
      driver,
      parent: new FutureNode(`node "${name}"`),
      children: new Map(),
      inline: new Set(),
      tree,
      given,
      common: resolveCommon(withFilterDefaults(driver, common), heritage.common, heritage.roles),
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
      this.names.release(name);
    }
  }

  private async openNode(opening: Opening, file: Node | undefined): Promise<Node> {
    const { driver, tree, name } = opening;
    const options = takeDeclared(tree, driver.options, `node "${name}" (driver "${driver.name}")`);
    adoptFilename(driver, tree, this.rules);
    for (const [child, { roles }] of requiredChildren(driver, tree)) {
      if (child === 'file' && file !== undefined) {
        await this.adopt(opening, child, roles, file);
        continue;
      }
      const value = takeOption(tree, child);
      if (!isChildValue(value)) {
        throw new BlockError(
          'EINVAL',
          `Cannot open node "${name}": driver "${driver.name}" needs a child "${child}"`,
        );
      }
      await this.openChild(opening, child, roles, value);
    }
    this.settleReadOnly(opening);
    const refused = this.graph.setup.refuseDriver?.(driver.name, opening.common.readOnly);
    if (refused !== undefined) throw new BlockError('EPERM', `Cannot open node "${name}": ${refused}`);
    const impl = await driver.open(this.context(opening, options));
    return this.finish(opening, impl);
  }

  private async finish(opening: Opening, impl: OpenDriver): Promise<Node> {
    const { name, driver, children, common, given, parent } = opening;
    try {
      refuseLeftOver(opening);
      const node = new Node({ name, driver, impl, children, common, options: given });
      parent.node = node;
      applyPermissions([node]);
      for (const child of opening.inline) child.node.heirOf = node;
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
      givenChild: (wanted) => children.get(wanted) ?? (peekOption(tree, wanted) === null ? null : undefined),
      openNamed: (wanted, reference) => this.openNamed(opening, wanted, reference),
      attach: (wanted, roles, node) => this.attach(opening, wanted, roles, node),
      object: (type, id) => this.graph.object(type, id, name),
      bitmap: (node, bitmap) => this.graph.bitmap(node, bitmap),
      unpacker: this.graph.setup.unpacker ?? unpackHere,
      readText: (filename) => this.graph.readText(filename, subject),
      event: (event, data) => {
        this.graph.setup.event?.(event, data);
      },
      secret: (id) => this.graph.secret(id, subject),
      warn: (message) => {
        if (opening.heritage.quiet !== true)
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
            open: (target, alone) =>
              alone
                ? this.openFile(target, reference.format, ALONE, { ...heritage, quiet: true })
                : this.openFile(target, reference.format, options, heritage),
          });
    return this.adopt(opening, name, roles, node);
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
    if (typeof value === 'string') {
      const named = this.graph.node(value);
      if (!opening.common.readOnly && (roles & Role.cow) === 0) await this.graph.allowWriting(named);
      return this.attach(opening, name, roles, named);
    }
    const node = await this.openTree(value, this.heritage(opening, roles));
    return this.adopt(opening, name, roles, node);
  }

  /** Attaches a node that was opened for this one alone; it does not outlive a refusal. */
  private async adopt(opening: Opening, name: string, roles: Roles, node: Node): Promise<Child> {
    try {
      const child = this.attach(opening, name, roles, node);
      opening.inline.add(child);
      return child;
    } catch (error) {
      await this.graph.closeUnused(node).catch(() => {});
      throw error;
    }
  }

  private attach(opening: Opening, name: string, roles: Roles, node: Node): Child {
    const { driver, parent, children, common } = opening;
    const follows = common.autoReadOnly || driver.kind === 'filter';
    const readOnly = common.readOnly || (node.readOnly && follows);
    refuseRoles(parent.label, children.values(), { name, roles });
    const edge = { name, roles, node };
    const pair = childPermissions(driver, edge, { used: 0, shared: ALL_PERMISSIONS }, readOnly);
    const used = pair.used | Permission.consistentRead;
    const child = this.graph.attach(node, { name, parent, roles }, { used, shared: pair.shared });
    children.set(name, child);
    return child;
  }

  private heritage(opening: Opening, roles: Roles): Heritage {
    const own = opening.children.get('file')?.node.filename;
    const { ancestors, quiet } = opening.heritage;
    return {
      quiet,
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
}

function isChildValue(value: unknown): value is ChildValue {
  return typeof value === 'string' || isTree(value);
}

/** Whatever nobody took is an error. What may stay: `backing: null` where there is no backing file anyway. */
function refuseLeftOver({ name, driver, tree }: Opening): void {
  const isNoChild = (key: string): boolean => driver.children[key] !== undefined && tree[key] === null;
  const unknown = Object.keys(tree).find((key) => !isNoChild(key));
  if (unknown === undefined) return;
  const refused = `Cannot open node "${name}": driver "${driver.name}"`;
  if (Object.keys(driver.children).some((child) => child === unknown || child.startsWith(`${unknown}.`)))
    throw new BlockError('EINVAL', `${refused} has no use for child "${unknown}" here`);
  const known = Object.keys(driver.options).join(', ');
  const only = known === '' ? '' : `, only ${known}`;
  throw new BlockError('EINVAL', `${refused} has no option "${unknown}"${only}`);
}

/** What a filter does with discards is up to what it filters, unless said otherwise. */
function withFilterDefaults(driver: Driver, given: OptionsTree): OptionsTree {
  return driver.kind === 'filter' && given['discard'] === undefined ? { ...given, discard: 'unmap' } : given;
}
