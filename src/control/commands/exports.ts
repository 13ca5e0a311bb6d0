import { errnoOf } from '../../block/errors.ts';
import { isIdentifier } from '../../block/objects.ts';
import { bool, choice, optional, text } from '../../block/schema.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import type { ControlHost, ExportHost } from '../host.ts';
import { findNode } from '../lookup.ts';

/** What an export takes, on the socket, on the command line and in files. */
export const EXPORT_OPTIONS = {
  type: optional(choice(['fuse'], 'Kind of export'), 'fuse'),
  id: text('Name of the export'),
  'node-name': text('Node that is shown'),
  mountpoint: text('Regular file that becomes the disk, or directory in which it is the file <node>.raw'),
  writable: optional(bool('Let the disk be written'), false),
  growable: optional(bool('Writes past the end and truncation change the size'), false),
  'allow-other': optional(
    choice(['auto', 'on', 'off'], 'Let other users in; auto: if the system does'),
    'auto',
  ),
  writethrough: optional(bool('Each write is on stable storage before it is answered'), false),
  passthrough: optional(
    bool('Let the kernel do the I/O where the disk is a host file as it is; no change below it then'),
    false,
  ),
  iothread: optional(text('Taken and not used: there is one thread')),
  'fixed-iothread': optional(bool('Taken and not used'), false),
} as const;

/** Nodes shown to the outside. */
export function exportCommands(host: ControlHost): readonly ControlCommand[] {
  return [add(host), remove(host.exports), query(host.exports)];
}

function add({ graph, exports }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'block-export-add',
    summary: 'Shows a node as a file',
    arguments: EXPORT_OPTIONS,
    run: async (options) => {
      if (!isIdentifier(options.id)) throw new CommandError('GenericError', 'Invalid block export id');
      if (exports.list().some(({ id }) => id === options.id))
        throw new CommandError('GenericError', `Block export id '${options.id}' is already in use`);
      const { iothread } = options;
      if (iothread !== undefined && graph.objects.get(iothread)?.type !== 'iothread')
        throw new CommandError('GenericError', `iothread "${iothread}" not found`);
      const node = findNode(graph, options);
      if (options.writable) await graph.allowWriting(node);
      if (options.writable && node.readOnly)
        throw new CommandError('GenericError', 'Block node is read-only');
      await exports.add(options);
    },
  });
}

function remove(exports: ExportHost): ControlCommand {
  return defineControlCommand({
    name: 'block-export-del',
    summary: 'Ends an export',
    arguments: {
      id: text('Name of the export'),
      mode: optional(choice(['safe', 'hard'], 'safe: refused while it is in use'), 'safe'),
    },
    run: async ({ id, mode }) => {
      if (!exports.list().some((exported) => exported.id === id))
        throw new CommandError('GenericError', `Export '${id}' is not found`);
      await exports.remove(id, mode === 'hard').catch((error: unknown) => {
        if (errnoOf(error) !== 'EBUSY') throw error;
        throw new CommandError(
          'GenericError',
          `export '${id}' still in use; mode='hard' ends it and disconnects its users`,
        );
      });
    },
  });
}

function query(exports: ExportHost): ControlCommand {
  return defineControlCommand({
    name: 'query-block-exports',
    summary: 'Lists the exports',
    arguments: {},
    run: async () =>
      exports.list().map(({ id, nodeName, isShuttingDown }) => ({
        'node-name': nodeName,
        'shutting-down': isShuttingDown,
        type: 'fuse',
        id,
      })),
  });
}
