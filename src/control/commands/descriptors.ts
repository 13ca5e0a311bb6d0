import { integer, optional, text } from '../../block/schema.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlClient, ControlCommand } from '../command.ts';
import type { DescriptorHost } from '../host.ts';

/** Descriptors that clients send along (SCM_RIGHTS). */
export function descriptorCommands(host: DescriptorHost): readonly ControlCommand[] {
  return [
    defineControlCommand({
      name: 'add-fd',
      summary: 'Adds the descriptor sent along to a set, for /dev/fdset/<set>',
      arguments: {
        'fdset-id': optional(integer('The set; a new one when left out')),
        opaque: optional(text('What query-fdsets is to tell about it')),
      },
      run: async ({ 'fdset-id': set, opaque }, client) => {
        const added = host.add(taken(client), set, opaque);
        return { 'fdset-id': added.set, fd: added.fd };
      },
    }),
    defineControlCommand({
      name: 'remove-fd',
      summary: 'Takes a descriptor, or all, out of a set; nodes that have it open keep it',
      arguments: { 'fdset-id': integer('The set'), fd: optional(integer('The descriptor')) },
      run: async ({ 'fdset-id': set, fd }) => {
        if (host.remove(set, fd)) return;
        const what = fd === undefined ? `fdset-id:${set}` : `fdset-id:${set}, fd:${fd}`;
        throw new CommandError('GenericError', `File descriptor named '${what}' not found`);
      },
    }),
    defineControlCommand({
      name: 'query-fdsets',
      summary: 'Lists the sets of descriptors',
      arguments: {},
      run: async () =>
        host.sets().map(({ id, fds }) => ({
          'fdset-id': id,
          fds: fds.map(({ fd, opaque }) => ({ fd, ...(opaque === undefined ? {} : { opaque }) })),
        })),
    }),
    defineControlCommand({
      name: 'getfd',
      summary: 'Keeps the descriptor sent along under a name',
      arguments: { fdname: text('The name') },
      run: async ({ fdname }, client) => {
        if (/^\d/.test(fdname))
          throw new CommandError(
            'GenericError',
            "Parameter 'fdname' expects a name not starting with a digit",
          );
        host.name(fdname, taken(client));
      },
    }),
    defineControlCommand({
      name: 'closefd',
      summary: 'Closes a descriptor kept under a name',
      arguments: { fdname: text('The name') },
      run: async ({ fdname }) => {
        if (!host.closeNamed(fdname))
          throw new CommandError('GenericError', `File descriptor named '${fdname}' not found`);
      },
    }),
  ];
}

function taken(client: ControlClient): number {
  const fd = client.takeDescriptor();
  if (fd === undefined) throw new CommandError('GenericError', 'No file descriptor supplied via SCM_RIGHTS');
  return fd;
}
