/** The file that an image names, by whichever of its names leads to it. */
import type { ImageReference } from './driver.ts';
import { BlockError, withContext } from './errors.ts';
import type { Graph } from './graph.ts';
import type { Node } from './node.ts';

interface Search {
  /** File names of the images above, nearest first. */
  readonly ancestors: readonly string[];
  open(target: string): Promise<Node>;
}

/** Opens the first candidate that is there and is what the image means. The error names all that were looked for. */
export async function openCandidate(
  graph: Graph,
  name: string,
  reference: ImageReference,
  search: Search,
): Promise<Node> {
  const tried: string[] = [];
  let failure: unknown;
  for (const filename of candidates(graph, reference, search)) {
    try {
      const target = graph.gate.admit({ ...reference, filename }, search.ancestors, `${name}.file.filename`);
      tried.push(target);
      return await openVerified(graph, reference, target, search);
    } catch (error) {
      if (failure === undefined || isMissing(failure)) failure = error;
    }
  }
  throw namedError(failure, name, reference, tried);
}

export function namedError(
  error: unknown,
  name: string,
  reference: ImageReference,
  tried: readonly string[],
): BlockError {
  if (tried.length === 0) return withContext(error, { path: reference.filename });
  const cause = withContext(error, { path: tried[0] ?? '' });
  const looked = tried.map((target) => `"${target}"`).join(', ');
  const text = `Cannot open ${name} "${reference.filename}": ${cause.message}; looked for ${looked}, another file can be given with ${name}.file.filename`;
  return new BlockError(cause.code, text, cause.context, cause);
}

function candidates(graph: Graph, reference: ImageReference, { ancestors }: Search): Set<string> {
  const names = [reference.filename, ...(reference.alternatives ?? [])];
  const { siblings } = reference;
  const [image] = ancestors;
  if (siblings === undefined || image === undefined) return new Set(names);
  const beside = graph.setup.siblings?.(image) ?? [];
  return new Set([
    ...names,
    ...beside.filter((file) => file.toLowerCase().endsWith(siblings) && !ancestors.includes(file)),
  ]);
}

async function openVerified(
  graph: Graph,
  reference: ImageReference,
  target: string,
  search: Search,
): Promise<Node> {
  const node = await search.open(target);
  const wrong = await reference.verify?.(node);
  if (wrong === undefined) return node;
  await graph.closeUnused(node);
  throw new BlockError('EINVAL', `Cannot use image "${target}": ${wrong}`, { path: target });
}

function isMissing(error: unknown): boolean {
  return error instanceof BlockError && (error.code === 'ENOENT' || error.code === 'EPERM');
}
