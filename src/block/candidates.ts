/** The file that an image names, by whichever of its names leads to it. */
import type { ImageReference } from './driver.ts';
import { BlockError, withContext } from './errors.ts';
import { protocolOf } from './filename.ts';
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
  /** By their real paths. */
  const tried = new Map<string, string>();
  let failure: unknown;
  for (const { filename, ancestors } of candidates(graph, reference, search.ancestors)) {
    try {
      const protocol = protocolOf(filename, graph.drivers);
      const target = graph.gate.admit({ ...reference, filename }, ancestors, overrideOf(name), protocol);
      const real = graph.gate.real(target);
      if (tried.has(real)) continue;
      tried.set(real, target);
      return await openVerified(graph, reference, target, search);
    } catch (error) {
      if (failure === undefined || tellsMore(error, failure)) failure = error;
    }
  }
  throw namedError(failure, name, reference, [...tried.values()]);
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
  const text = `Cannot open ${name} "${reference.filename}": ${cause.message}; looked for ${looked}, another file can be given with ${overrideOf(name)}`;
  return new BlockError(cause.code, text, cause.context, cause);
}

/** The option by which another file is given for a child. */
const overrideOf = (name: string): string =>
  name.startsWith('extents.') ? `${name}.filename` : `${name}.file.filename`;

interface Candidate {
  readonly filename: string;
  readonly ancestors: readonly string[];
}

/** Beside the image as it was named, then, if that name is a link, beside the file it leads to. */
function candidates(graph: Graph, reference: ImageReference, ancestors: readonly string[]): Candidate[] {
  const [image, ...above] = ancestors;
  const names = [reference.filename, ...(reference.alternatives ?? [])];
  if (image === undefined) return names.map((filename) => ({ filename, ancestors }));
  const found: Candidate[] = [];
  for (const place of new Set([image, graph.gate.real(image)])) {
    const beside = reference.siblings === undefined ? [] : (graph.setup.siblings?.(place) ?? []);
    const siblings = beside.filter(
      (file) => file.toLowerCase().endsWith(reference.siblings ?? '') && !ancestors.includes(file),
    );
    for (const filename of [...names, ...siblings]) found.push({ filename, ancestors: [place, ...above] });
  }
  return found;
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

/** A file that is there and is refused tells more than one that is missing. */
function tellsMore(error: unknown, than: unknown): boolean {
  return codeOf(than) === 'ENOENT' || (codeOf(than) === 'EPERM' && codeOf(error) !== 'ENOENT');
}

const codeOf = (error: unknown): string | undefined => (error instanceof BlockError ? error.code : undefined);
