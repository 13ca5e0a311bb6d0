/** Commands to the server of a mounted image, from another process. */
import path from 'node:path';
import { BlockError } from '../../block/errors.ts';
import { connectControl } from '../../sys/control-socket.ts';
import type { ControlClientConnection } from '../../sys/control-socket.ts';
import { realPath } from '../../sys/paths.ts';
import { runningServers } from '../../sys/running-servers.ts';
import type { RunningServer, ServedMount } from '../../sys/running-servers.ts';

export interface ServedImage {
  readonly server: RunningServer;
  readonly mount: ServedMount;
}

/** Who shows an image; it may be named by its own file, the file that shows it, or the mount point. */
export function servedImage(image: string): ServedImage | undefined {
  if (image.startsWith('json:')) return undefined;
  const wanted = new Set([path.resolve(image), realPath(image)]);
  for (const server of runningServers()) {
    const isMeant = ({ image: name, file, mountpoint }: ServedMount): boolean =>
      wanted.has(realPath(name)) || wanted.has(file) || wanted.has(mountpoint);
    const mount = server.mounts.find(isMeant);
    if (mount !== undefined) return { server, mount };
  }
  return undefined;
}

/** Runs one command there; rejects with what the server says against it. */
export async function ask(
  { server, mount }: ServedImage,
  command: string,
  given: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  return askServer(server, command, given, `Cannot change "${mount.image}"`);
}

/** The same of any server. @param action begins the message of an error: `Cannot change "disk.qcow2"` */
export async function askServer(
  server: Pick<RunningServer, 'socket'> & { readonly pid?: number },
  command: string,
  given: Readonly<Record<string, unknown>>,
  action: string,
): Promise<unknown> {
  const connection = await connectControl(server.socket).catch((error: unknown) => {
    const text = `${action}: its server (${server.pid === undefined ? server.socket : `pid ${server.pid}`}) does not answer`;
    throw new BlockError('ECONNREFUSED', text, {}, error);
  });
  try {
    await connection.line();
    await execute(connection, 'qmp_capabilities');
    return await execute(connection, command, given);
  } finally {
    connection.close();
  }
}

async function execute(
  connection: ControlClientConnection,
  command: string,
  given: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  connection.send(`${JSON.stringify({ execute: command, arguments: given })}\n`);
  for (;;) {
    const line = await connection.line();
    if (line === undefined) throw new BlockError('ECONNRESET', `Cannot ${command}: the server hung up`);
    const answer = JSON.parse(line) as { return?: unknown; error?: { desc: string }; event?: string };
    if (answer.error !== undefined) throw new BlockError('EIO', answer.error.desc);
    if (answer.event === undefined) return answer.return;
  }
}
