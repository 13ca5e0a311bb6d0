/** Files that describe a server: the options of the command line under their names, each a list. */
import { expandDotted, isTree } from '../../block/options.ts';
import type { OptionsTree } from '../../block/options.ts';
import { readTextFile } from '../../sys/text-file.ts';
import { UsageError } from '../command.ts';
import type { ServeStep } from '../server/messages.ts';
import { readStep } from './read-step.ts';
import { KIND_NAMES } from './step-options.ts';

/** The steps of a file: descriptors, objects, connections, nodes, exports, monitors, whatever their order in it. */
export async function readConfig(filename: string): Promise<ServeStep[]> {
  const tree = await parse(filename, await readTextFile(filename));
  const { $schema: _schema, ...lists } = tree;
  const unknown = Object.keys(lists).find((key) => !KIND_NAMES.some((kind) => kind === key));
  if (unknown !== undefined)
    throw new UsageError(`"${filename}" has "${unknown}", known are ${KIND_NAMES.join(', ')}`);
  return KIND_NAMES.flatMap((kind) =>
    listOf(filename, kind, lists[kind]).map((options) => readStep(kind, expandDotted(options))),
  );
}

async function parse(filename: string, text: string): Promise<OptionsTree> {
  const value = await parseValue(filename, text);
  if (isTree(value)) return value;
  throw new UsageError(`"${filename}" must hold an object with lists named ${KIND_NAMES.join(', ')}`);
}

/** JSON is YAML, too, but errors of the JSON parser are better for those who write JSON. */
async function parseValue(filename: string, text: string): Promise<unknown> {
  try {
    if (text.trimStart().startsWith('{')) return JSON.parse(text);
    // A CommonJS package: in the bundle it has no names but the default one.
    const { default: yaml } = await import('yaml');
    return yaml.parse(text, { maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw new UsageError(
      `"${filename}" can't be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function listOf(filename: string, kind: string, value: unknown): OptionsTree[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every(isTree)) return value;
  throw new UsageError(`"${filename}": "${kind}" must be a list of objects`);
}
