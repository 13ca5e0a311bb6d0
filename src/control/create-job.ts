import type { Child } from '../block/child.ts';
import type { Driver } from '../block/driver.ts';
import { BlockError } from '../block/errors.ts';
import { isTree, takeDeclared } from '../block/options.ts';
import type { OptionsTree } from '../block/options.ts';
import { Permission } from '../block/permissions.ts';
import { integer } from '../block/schema.ts';
import type { OptionEntries } from '../block/schema.ts';
import type { ControlHost } from './host.ts';
import { withDoor } from './lookup.ts';

/** The work of `blockdev-create`: a file of zeroes for a protocol, the structures of a format in a node for a format. */
export function createJob(
  host: ControlHost,
  name: string,
  size: number,
  given: OptionsTree,
): () => Promise<void> {
  const { filename, file, size: _size, ...options } = given;
  return async () => {
    const driver = host.graph.drivers.get(name);
    if (driver?.name === 'file') {
      if (typeof filename !== 'string') throw new BlockError('EINVAL', "Parameter 'filename' is missing");
      await host.createFile(filename, size);
      return;
    }
    if (driver?.create === undefined)
      throw new BlockError('ENOTSUP', `Driver '${name}' does not support image creation`);
    const { graph } = host;
    const isReference = typeof file === 'string';
    if (!isReference && !isTree(file)) throw new BlockError('EINVAL', "Parameter 'file' is missing");
    const node = isReference ? graph.node(file) : await graph.open({ discard: 'unmap', ...file });
    try {
      await withDoor(graph, node, Permission.consistentRead | Permission.write | Permission.resize, (door) =>
        format(driver, door, size, options),
      );
    } finally {
      if (!isReference) await graph.remove(node.name);
    }
  };
}

async function format(driver: Driver, file: Child, size: number, options: OptionsTree): Promise<void> {
  const entries = driver.createOptions ?? {};
  const tree = toCreateOptions(structuredClone(options), entries);
  const values = takeDeclared(tree, entries, `new ${driver.name} image`);
  const [unknown] = Object.keys(tree);
  if (unknown !== undefined) throw new BlockError('EINVAL', `Parameter '${unknown}' is unexpected`);
  const wanted = { options: values, size, subject: file.node.filename, isAlone: true };
  await driver.checkCreate?.(wanted);
  await file.resize(0, true);
  await driver.create?.({
    ...wanted,
    file,
    createFile: () =>
      Promise.reject(new BlockError('ENOTSUP', 'Cannot create further files here; use "blockfuse create"')),
  });
  await file.flush();
}

/** The options of a new image by the names that `blockdev-create` has for them. */
export function createArguments(driver: Driver): OptionEntries {
  const entries = Object.entries(driver.createOptions ?? {});
  const spelled = entries.map(([name, schema]) => [NAMES[name] ?? name.replaceAll('_', '-'), schema]);
  return { size: integer('Size'), ...Object.fromEntries(spelled) };
}

const NAMES: Readonly<Record<string, string>> = { compat: 'version' };
const RENAMED: Readonly<Record<string, string>> = { version: 'compat' };
const VALUES: Readonly<Record<string, string>> = { v2: '0.10', v3: '1.1' };

/** `blockdev-create` spells options with dashes and qcow2's version as v2 or v3, `qemu-img create` has other words. */
function toCreateOptions(options: OptionsTree, entries: OptionEntries): OptionsTree {
  const tree: OptionsTree = {};
  for (const [key, value] of Object.entries(options)) {
    const name = Object.hasOwn(entries, key) ? key : (RENAMED[key] ?? key.replaceAll('-', '_'));
    tree[name] = name === 'compat' && typeof value === 'string' ? (VALUES[value] ?? value) : value;
  }
  return tree;
}
