/** Whole file names as users give them: plain, `json:{...}`, or in the form of a protocol (`nbd://host/export`). */
import type { Driver } from './driver.ts';
import { BlockError } from './errors.ts';
import { isTree } from './options.ts';
import type { OptionsTree } from './options.ts';
import { Role } from './permissions.ts';

const JSON_PREFIX = 'json:';

export interface FilenameRules {
  readonly drivers: ReadonlyMap<string, Driver>;
  /** The protocol driver of a plain name; `file` when left out. */
  readonly protocolFor?: ((filename: string) => string) | undefined;
}

/** The options of the node that a whole file name means. */
export function parseFilename(filename: string, rules: FilenameRules): OptionsTree {
  if (filename.startsWith(JSON_PREFIX)) return parseJson(filename.slice(JSON_PREFIX.length));
  const driver = prefixedDriver(filename, rules.drivers);
  if (driver === undefined) return { driver: plainProtocol(filename, rules), filename };
  return withProtocols(driver, { driver: driver.name, ...driver.parseFilename?.(filename) }, rules);
}

/** What a whole file name is of that is no plain one: the name of a driver, or json. */
export function protocolOf(filename: string, drivers: FilenameRules['drivers']): string | undefined {
  return filename.startsWith(JSON_PREFIX) ? 'json' : prefixedDriver(filename, drivers)?.name;
}

function prefixedDriver(filename: string, drivers: FilenameRules['drivers']): Driver | undefined {
  for (const driver of drivers.values())
    if (driver.prefixes?.some((prefix) => filename.startsWith(prefix)) === true) return driver;
  return undefined;
}

/** `driver=qcow2,filename=x` means `driver=qcow2,file.filename=x`; a `file` child without driver is a plain file. */
export function adoptFilename(driver: Driver, tree: OptionsTree, rules: FilenameRules): void {
  if (driver.children['file'] === undefined) return;
  if (tree['file'] === undefined && typeof tree['filename'] === 'string') {
    tree['file'] = parseFilename(tree['filename'], rules);
    delete tree['filename'];
  }
  const { file } = tree;
  if (!isTree(file) || file['driver'] !== undefined || typeof file['filename'] !== 'string') return;
  tree['file'] = { driver: plainProtocol(file['filename'], rules), ...file };
}

/** A file name within a file name (`blkdebug:rules:nbd://host`): a filter stands on a protocol, nothing is probed. */
function withProtocols(driver: Driver, tree: OptionsTree, rules: FilenameRules): OptionsTree {
  for (const [name, { roles }] of Object.entries(driver.children)) {
    const child = tree[name];
    if ((roles & Role.filtered) === 0 || !isTree(child) || typeof child['filename'] !== 'string') continue;
    tree[name] = parseFilename(child['filename'], rules);
  }
  return tree;
}

function plainProtocol(filename: string, rules: FilenameRules): string {
  return rules.protocolFor?.(filename) ?? 'file';
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
