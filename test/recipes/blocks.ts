/** The recipes of README.md: what stands there is what is run. */
import { readFileSync } from 'node:fs';

export interface Recipe {
  readonly name: string;
  /** Whether it says that it needs root. */
  readonly needsRoot: boolean;
  /** As it stands there. */
  readonly script: string;
}

const MARKED = /^<!-- recipe: ([a-z-]+)( \(root\))? -->\n```sh\n(.*?)^```$/gms;

/** Every block that is marked `<!-- recipe: NAME -->` or `<!-- recipe: NAME (root) -->`, in their order. */
export function recipes(): Recipe[] {
  const text = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  return [...text.matchAll(MARKED)].map(([, name = '', root, script = '']) => ({
    name,
    needsRoot: root !== undefined,
    script,
  }));
}
