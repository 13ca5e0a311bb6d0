import type { Child } from '../block/child.ts';
import type { Node } from '../block/node.ts';
import { permissionNames, roleNames } from '../block/permissions.ts';
import { allocatedSize } from '../block/storage.ts';
import type { ControlHost } from './host.ts';

/** A graph as it can be drawn. What is not known (of a graph that is not open) is left out. */
export interface GraphDescription {
  readonly nodes: readonly NodeDescription[];
  readonly edges: readonly EdgeDescription[];
  readonly roots: readonly RootDescription[];
}

export interface NodeDescription {
  readonly name: string;
  readonly driver: string;
  readonly kind: 'protocol' | 'format' | 'filter' | 'unknown';
  readonly filename?: string;
  readonly 'read-only'?: boolean;
  /** Bytes of the disk. */
  readonly size?: number;
  /** Bytes that its own data takes. */
  readonly allocated?: number;
}

export interface EdgeDescription {
  /** Name of a node, or id of a root. */
  readonly parent: string;
  readonly child: string;
  readonly name: string;
  readonly roles?: readonly string[];
  readonly uses?: readonly string[];
  readonly shares?: readonly string[];
}

/** Somebody outside the graph who holds a node: an export, a job. */
export interface RootDescription {
  readonly id: string;
  readonly label: string;
  /** Where it is shown. */
  readonly file?: string;
  readonly writable?: boolean;
}

export function describeGraph({ graph, exports }: ControlHost): GraphDescription {
  const nodes = [...graph.nodes.values()];
  const states = new Map(exports.list().map((state) => [`export "${state.id}"`, state]));
  const roots = new Map<object, RootDescription>();
  const edges = nodes.flatMap((node) =>
    [...node.parents].map((edge) => {
      const { parent } = edge;
      if (parent.parentNode !== undefined) return describeEdge(edge, parent.parentNode.name);
      const state = states.get(parent.label);
      const shown = state === undefined ? {} : { file: state.file, writable: state.isWritable };
      const root = { id: `root ${roots.size + 1}`, label: parent.label, ...shown };
      roots.set(edge, root);
      return describeEdge(edge, root.id);
    }),
  );
  return { nodes: nodes.map(describeOne), edges, roots: [...roots.values()] };
}

function describeOne(node: Node): NodeDescription {
  const { name, driver, filename, readOnly, size } = node;
  const allocated = driver.kind === 'filter' ? undefined : allocatedSize(node);
  return {
    name,
    driver: driver.name,
    kind: driver.kind,
    'read-only': readOnly,
    size,
    ...(driver.kind === 'protocol' && filename !== '' ? { filename } : {}),
    ...(allocated === undefined ? {} : { allocated }),
  };
}

function describeEdge(edge: Child, parent: string): EdgeDescription {
  return {
    parent,
    child: edge.node.name,
    name: edge.name,
    roles: roleNames(edge.roles),
    uses: permissionNames(edge.used),
    shares: permissionNames(edge.shared),
  };
}
