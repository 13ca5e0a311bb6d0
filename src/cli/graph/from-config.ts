import { DRIVERS } from '../../../drivers/index.ts';
import { isTree, takeOption } from '../../block/options.ts';
import type { OptionsTree } from '../../block/options.ts';
import { roleNames } from '../../block/permissions.ts';
import type {
  EdgeDescription,
  GraphDescription,
  NodeDescription,
  RootDescription,
} from '../../control/describe-graph.ts';
import { readConfig } from '../serve/config.ts';

/** What a file describes, as far as it can be told without opening anything. */
export async function graphOfConfig(filename: string): Promise<GraphDescription> {
  const steps = await readConfig(filename);
  const drawing = new Drawing();
  for (const step of steps) {
    if (step.kind === 'blockdev') drawing.addNode(step.options);
    else if (step.kind === 'export') {
      const { id, nodeName, mountpoint, writable } = step.spec;
      drawing.addRoot(
        { id, label: `export "${id}"`, file: mountpoint, writable: writable === true },
        nodeName,
      );
    }
  }
  return drawing;
}

class Drawing implements GraphDescription {
  readonly nodes: NodeDescription[] = [];
  readonly edges: EdgeDescription[] = [];
  readonly roots: RootDescription[] = [];

  addRoot(root: RootDescription, node: string): void {
    this.roots.push(root);
    this.edges.push({ parent: root.id, child: node, name: 'root' });
  }

  /** Returns the name of the node. */
  addNode(options: OptionsTree): string {
    const tree = structuredClone(options);
    const { driver: given, 'node-name': named, filename, 'read-only': readOnly } = tree;
    const driver = DRIVERS.find(({ name }) => name === given);
    const name = typeof named === 'string' ? named : `#${this.nodes.length + 1}`;
    this.nodes.push({
      name,
      driver: typeof given === 'string' ? given : '(found out from its content)',
      kind: driver?.kind ?? 'unknown',
      ...(typeof filename === 'string' ? { filename } : {}),
      ...(readOnly === undefined ? {} : { 'read-only': readOnly === true || readOnly === 'on' }),
    });
    for (const [child, value] of childrenIn(tree, driver?.children ?? { file: { roles: 0 } })) {
      if (typeof value !== 'string' && !isTree(value)) continue;
      const below = typeof value === 'string' ? value : this.addNode(value);
      const roles = driver?.children[child]?.roles;
      this.edges.push({
        parent: name,
        child: below,
        name: child,
        ...(roles === undefined ? {} : { roles: roleNames(roles) }),
      });
    }
    return name;
  }
}

function childrenIn(tree: OptionsTree, declared: Readonly<Record<string, unknown>>): [string, unknown][] {
  const names = new Set(['file', 'backing', ...Object.keys(declared)]);
  return [...names].flatMap((name): [string, unknown][] => {
    if (!name.endsWith('.*')) return [[name, takeOption(tree, name)]];
    const list = takeOption(tree, name.slice(0, -2));
    return typeof list === 'object' && list !== null
      ? Object.entries(list).map(([index, value]) => [`${name.slice(0, -2)}.${index}`, value])
      : [];
  });
}
