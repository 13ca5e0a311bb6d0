import type { Node } from './node.ts';

/** The nodes below (and with) `node` that store its own data: files, data files, extents; not its backing chain. */
export function storageNodes(node: Node): Node[] {
  const below = [...node.children.values()].filter((child) => child !== node.cow);
  return below.length === 0 ? [node] : below.flatMap((child) => storageNodes(child.node));
}

/** Bytes that the image alone takes on its medium; undefined where that can't be told. */
export function allocatedSize(node: Node): number | undefined {
  const sizes = storageNodes(node).map(({ impl }) => impl.allocatedSize?.());
  const known = sizes.filter((size) => size !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, size) => sum + size, 0);
}

/** When the image alone was changed last, milliseconds since 1970; undefined where that can't be told. */
export function modifiedAt(node: Node): number | undefined {
  const times = storageNodes(node).map(({ impl }) => impl.modifiedAt?.());
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}

/** The name of the node's format, filters above it left out. One that is no plain filter (quorum) counts as a format. */
export function formatName(node: Node): string {
  const filtered = node.impl.family === 'filter' ? node.filteredChild().node : undefined;
  return filtered === undefined ? node.driver.name : formatName(filtered);
}
