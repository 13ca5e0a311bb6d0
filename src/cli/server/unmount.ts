/** The unmount command: finds the server of a mount, asks it to end, and waits until it has. */
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockError } from '../../block/errors.ts';
import { connectControl } from '../../sys/control-socket.ts';
import type { ControlClientConnection as ControlConnection } from '../../sys/control-socket.ts';
import { canonicalMountpoint, mountAt } from '../../sys/mount-table.ts';
import { loopDevicesOf, processesUsing } from '../../sys/processes.ts';
import { isAlive, runningServers } from '../../sys/running-servers.ts';
import type { RunningServer } from '../../sys/running-servers.ts';
import { complain } from '../output.ts';
import { UNMOUNT } from './control-commands.ts';
import type { UnmountAnswer } from './control-commands.ts';
import { detachMount } from './detach-mount.ts';

/** Resolves when everything is flushed, the image closed and the server gone. */
export async function unmount(mountpoint: string, lazy: boolean): Promise<void> {
  const path = canonicalMountpoint(mountpoint);
  const server = runningServers().find(({ mounts }) => mounts.some((mount) => mount.mountpoint === path));
  if (server !== undefined) return endServer(server, path, lazy);
  const mounted = mountAt(path);
  if (mounted?.type !== 'fuse.blockfuse') {
    throw new BlockError(
      'EINVAL',
      `Cannot unmount "${mountpoint}": it is ${whatIs(mounted)}, not a mount of blockfuse`,
    );
  }
  await detachMount(path, lazy).catch((error: unknown) => {
    throw withUsers(error, path);
  });
  complain(`warning: "${path}" is unmounted, but its server is not one of yours or was gone already`);
}

function whatIs(mounted: { type: string } | undefined): string {
  return mounted === undefined ? 'no mountpoint' : `a mount of type ${mounted.type}`;
}

async function endServer(server: RunningServer, path: string, lazy: boolean): Promise<void> {
  const connection = await connectControl(server.socket).catch(() => undefined);
  if (connection === undefined) {
    throw new BlockError(
      'ECONNREFUSED',
      `Cannot unmount "${path}": its server (pid ${server.pid}) does not answer`,
    );
  }
  try {
    const answer = await askToEnd(connection, path, lazy);
    if (answer?.return?.ended === false) throw withUsers(new BlockError('EBUSY', 'in use'), path);
    if (answer?.error !== undefined) throw new BlockError('EIO', answer.error.desc, { path });
    while (answer?.return?.serverEnds !== false && isAlive(server)) await sleep(5);
    const failure = answer?.return?.failure;
    if (failure !== undefined) throw new BlockError('EIO', failure, { path });
  } finally {
    connection.close();
  }
}

interface Answer {
  readonly return?: UnmountAnswer;
  readonly error?: { readonly desc: string };
}

/** What the server says; undefined when it was ending already and hung up. */
async function askToEnd(
  connection: ControlConnection,
  mountpoint: string,
  lazy: boolean,
): Promise<Answer | undefined> {
  await connection.line();
  connection.send(`${JSON.stringify({ execute: 'qmp_capabilities' })}\n`);
  await connection.line();
  connection.send(`${JSON.stringify({ execute: UNMOUNT, arguments: { lazy, mountpoint } })}\n`);
  for (;;) {
    const line = await connection.line();
    if (line === undefined) return undefined;
    const message = JSON.parse(line) as Answer & { readonly event?: string };
    if (message.event === undefined) return message;
  }
}

/** Adds who keeps a mount busy, as far as /proc tells. */
function withUsers(error: unknown, path: string): unknown {
  if (!(error instanceof BlockError) || error.code !== 'EBUSY') return error;
  const users = processesUsing(path).map(({ pid, name }) => `${name} (pid ${pid})`);
  const all = [...users, ...loopDevicesOf(path)];
  const who = all.length === 0 ? 'something that /proc does not tell' : all.join(', ');
  return new BlockError('EBUSY', `Cannot unmount "${path}": it is in use by ${who}`, { path });
}
