/**
 * The file that an image names, by whichever of its names leads to it. Where it is known by more than its name, each candidate
 * is first opened alone, without what is below it: a folder of images whose common base is gone would else be walked
 * through in every order.
 */
import path from 'node:path';
import type { ImageReference } from './driver.ts';
import { BlockError, withContext } from './errors.ts';
import { protocolOf } from './filename.ts';
import type { Graph } from './graph.ts';
import type { Node } from './node.ts';
import type { OptionsTree } from './options.ts';

interface Search {
  /** File names of the images above, nearest first. */
  readonly ancestors: readonly string[];
  /** @param alone without its own parent, for a look at what it is: with the options ALONE, telling the user nothing */
  open(target: string, alone: boolean): Promise<Node>;
}

export const ALONE: OptionsTree = { 'read-only': true, backing: null };

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
  for (const { filename, isNamed, ancestors } of candidates(graph, reference, search.ancestors)) {
    let isMeant = false;
    try {
      const protocol = protocolOf(filename, graph.drivers);
      const target = graph.gate.admit({ ...reference, filename }, ancestors, overrideOf(name), protocol);
      const real = graph.gate.real(target);
      if (tried.has(real)) continue;
      tried.set(real, target);
      isMeant = await isVerified(graph, reference, target, search);
      return await search.open(target, false);
    } catch (error) {
      if (isMeant) throw namedError(error, name, reference, [...tried.values()].slice(-1));
      if (failure === undefined || (isNamed && tellsMore(error, failure))) failure = error;
    }
  }
  throw namedError(failure, name, reference, [...tried.values()]);
}

/** Names in a message: a folder may hold any number of images. */
const SHOWN_MAX = 10;

export function namedError(
  error: unknown,
  name: string,
  reference: ImageReference,
  tried: readonly string[],
): BlockError {
  if (tried.length === 0) return withContext(error, { path: reference.filename });
  const cause = withContext(error, { path: tried[0] ?? '' });
  const shown = tried.slice(0, SHOWN_MAX).map((target) => `"${target}"`);
  const more = tried.length - shown.length;
  const looked = `${shown.join(', ')}${more > 0 ? ` and ${more} more files beside it` : ''}`;
  const text = `Cannot open ${name} "${reference.filename}": ${cause.message}; looked for ${looked}, another file can be given with ${overrideOf(name)}`;
  return new BlockError(cause.code, text, cause.context, cause);
}

/** The option by which another file is given for a child. */
const overrideOf = (name: string): string =>
  name.startsWith('extents.') ? `${name}.filename` : `${name}.file.filename`;

interface Candidate {
  readonly filename: string;
  /** The image has that name; else it is a file that lies beside it. */
  readonly isNamed: boolean;
  readonly ancestors: readonly string[];
}

/** Beside the image as it was named, then, if that name is a link, beside the file it leads to; last what lies there. */
function candidates(graph: Graph, reference: ImageReference, ancestors: readonly string[]): Candidate[] {
  const [image, ...above] = ancestors;
  const names = [reference.filename, ...(reference.alternatives ?? [])];
  if (image === undefined) return names.map((filename) => ({ filename, isNamed: true, ancestors }));
  const named: Candidate[] = [];
  const beside: Candidate[] = [];
  const known = new Set(ancestors.map((name) => graph.gate.real(path.resolve(name))));
  for (const place of new Set([image, graph.gate.real(image)])) {
    const from = { ancestors: [place, ...above] };
    for (const filename of names) named.push({ filename, isNamed: true, ...from });
    for (const filename of siblingsOf(graph, reference, path.dirname(path.resolve(place)))) {
      if (!known.has(graph.gate.real(filename))) beside.push({ filename, isNamed: false, ...from });
    }
  }
  return [...named, ...beside];
}

function siblingsOf(graph: Graph, { siblings }: ImageReference, home: string): string[] {
  if (siblings === undefined) return [];
  const { ending, inside } = siblings;
  const folders = path.basename(home) === inside ? [home, path.dirname(home)] : [home];
  return folders
    .flatMap((folder) => graph.setup.siblings?.(path.join(folder, 'any')) ?? [])
    .filter((name) => name.toLowerCase().endsWith(ending));
}

/** False: there is nothing that tells. Rejects for one that is not what the image means. */
async function isVerified(
  graph: Graph,
  { verify }: ImageReference,
  target: string,
  search: Search,
): Promise<boolean> {
  if (verify === undefined) return false;
  const alone = await search.open(target, true);
  let wrong: string | undefined;
  try {
    wrong = await verify(alone);
  } finally {
    await graph.closeUnused(alone);
  }
  if (wrong === undefined) return true;
  throw new BlockError('EINVAL', `Cannot use image "${target}": ${wrong}`, { path: target });
}

/** A file that is there and is refused tells more than one that is missing. */
function tellsMore(error: unknown, than: unknown): boolean {
  return codeOf(than) === 'ENOENT' || (codeOf(than) === 'EPERM' && codeOf(error) !== 'ENOENT');
}

const codeOf = (error: unknown): string | undefined => (error instanceof BlockError ? error.code : undefined);
