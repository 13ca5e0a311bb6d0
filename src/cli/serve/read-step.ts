import * as v from 'valibot';
import type { OptionsTree } from '../../block/options.ts';
import type { OptionEntries, OptionsOf } from '../../block/schema.ts';
import { wrongArgument } from '../../control/wrong-argument.ts';
import { listenDescriptor } from '../../sys/listen-fds.ts';
import { UsageError } from '../command.ts';
import { exportSpec } from '../server/export-spec.ts';
import type { Chardev, ServeStep } from '../server/messages.ts';
import {
  BLOCKDEV_OPTIONS,
  CHARDEV_OPTIONS,
  FD_OPTIONS,
  KINDS,
  MONITOR_OPTIONS,
  OBJECT_OPTIONS,
} from './step-options.ts';
import type { KindName } from './step-options.ts';

/** One step from its options; a UsageError names what is wrong with them. */
export function readStep(kind: KindName, tree: OptionsTree): ServeStep {
  switch (kind) {
    case 'add-fd':
      return { kind: 'fd', ...checked(kind, FD_OPTIONS, tree) };
    case 'object': {
      const { 'qom-type': type, id, ...options } = { ...tree, ...checked(kind, OBJECT_OPTIONS, tree) };
      return { kind, type, id, options };
    }
    case 'chardev':
      return { kind, chardev: readChardev(checked(kind, CHARDEV_OPTIONS, tree)) };
    case 'monitor':
      return { kind, ...checked(kind, MONITOR_OPTIONS, tree) };
    case 'blockdev':
      checked(kind, BLOCKDEV_OPTIONS, tree);
      return { kind, options: tree };
    case 'export':
      return { kind, spec: exportSpec(checked(kind, KINDS.export.entries, tree)) };
  }
}

function checked<Entries extends OptionEntries>(
  kind: KindName,
  entries: Entries,
  tree: OptionsTree,
): OptionsOf<Entries> {
  const schema = KINDS[kind].open ? v.looseObject(entries) : v.strictObject(entries);
  const result = v.safeParse(schema, tree);
  if (result.success) return result.output as OptionsOf<Entries>;
  throw new UsageError(`--${kind}: ${wrongArgument(result.issues[0], entries)}`);
}

function readChardev(given: OptionsOf<typeof CHARDEV_OPTIONS>): Chardev {
  const { backend, id, path, fd, server, wait } = given;
  if (backend === 'stdio') return { backend, id };
  if ((path === undefined) === (fd === undefined))
    throw new UsageError(`--chardev: socket "${id}" needs either path or fd`);
  return {
    backend,
    id,
    path,
    fd: fd === undefined ? undefined : listenDescriptor(fd),
    server: server || fd !== undefined,
    wait: wait && fd === undefined,
  };
}
