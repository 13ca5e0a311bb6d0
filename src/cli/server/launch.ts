/** The command's side of a mount: starts the server in a session of its own and waits until the disk can be read. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Duplex } from 'node:stream';
import { DEFAULT_SECRET } from '../../block/secrets.ts';
import { askSecret, encoded } from '../secrets.ts';
import { BlockError, errnoOf } from '../../block/errors.ts';
import type { ErrnoCode } from '../../block/errors.ts';
import { discardServerLog, openServerLog } from '../../sys/running-servers.ts';
import { complain } from '../output.ts';
import { handOver } from './handed.ts';
import type { ServeReport, ServeRequest } from './messages.ts';
import { selfCommand, selfName, SERVE, serverEnvironment } from './self.ts';

export type Ready = Extract<ServeReport, { type: 'ready' }>;
/** Number of the first descriptor after standard input, output, error and the pipe. */
const FIRST_HANDED = 4;

type Failed = Extract<ServeReport, { type: 'failed' }>;

/** Resolves when the disk can be read; rejects with what the server says, which has ended by then. */
export async function launchServer(request: ServeRequest): Promise<Ready> {
  try {
    return await launch(request);
  } catch (error) {
    // The server has no terminal to ask at.
    if (errnoOf(error) !== 'ENOKEY' || request.secrets?.some(({ id }) => id === DEFAULT_SECRET) === true)
      throw error;
    const key = { id: DEFAULT_SECRET, bytes: await askSecret(request.words[0] ?? 'image') };
    return launch({ ...request, secrets: [...(request.secrets ?? []), encoded(key)] });
  }
}

async function launch(request: ServeRequest): Promise<Ready> {
  const log = openServerLog();
  const { steps, handed } = handOver(request.steps, FIRST_HANDED);
  // The arguments after the first are for people who read the list of processes.
  const [program, argv] = selfCommand([SERVE, ...request.words]);
  const child = spawn(program, argv, {
    argv0: selfName(),
    cwd: request.cwd,
    detached: true,
    env: withoutServiceManager(serverEnvironment()),
    stdio: ['ignore', log.fd, log.fd, 'pipe', ...handed],
  });
  const report = await converse(child, { ...request, steps, log: log.path });
  if (report?.type === 'ready') return report;
  const said = discardServerLog(log.path);
  if (report !== undefined) throw new BlockError(report.code as ErrnoCode, report.message);
  throw new BlockError('EIO', `Cannot ${request.title}: the server ended early\n${said}`);
}

/** A server in the background is not the process that the manager of services has started and knows. */
function withoutServiceManager(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const names = Object.keys(environment).filter((name) => !/^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_)/.test(name));
  return Object.fromEntries(names.map((name) => [name, environment[name]]));
}

/** What became of the start; undefined when the server ended without a word. */
async function converse(child: ChildProcess, request: ServeRequest): Promise<Ready | Failed | undefined> {
  const pipe = child.stdio[3];
  if (!(pipe instanceof Duplex)) throw new TypeError('the server has no pipe');
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => {
      resolve();
    });
  });
  // An error of the pipe means that the server ended; `ended` and the end of the lines tell.
  pipe.on('error', () => undefined);
  pipe.write(`${JSON.stringify(request)}\n`);
  for await (const report of reports(pipe)) {
    if (report.type === 'warning') complain(`warning: ${report.message}`);
    if (report.type === 'ready') return release(child, pipe, report);
    if (report.type === 'failed') {
      await ended;
      return report;
    }
  }
  await ended;
  return undefined;
}

/** What the server says until it hangs up, in whatever way. */
async function* reports(pipe: Duplex): AsyncGenerator<ServeReport> {
  try {
    for await (const line of createInterface({ input: pipe })) yield JSON.parse(line) as ServeReport;
  } catch (error) {
    // A server that died before it read its request.
    if (!['ECONNRESET', 'EPIPE'].includes(errnoOf(error))) throw error;
  }
}

/** Lets this process end while the server goes on. */
function release(child: ChildProcess, pipe: Duplex, report: Ready): Ready {
  pipe.destroy();
  child.unref();
  return report;
}
