/** The server's side of a mount: takes the request, opens, mounts, says so, and stays until the mount ends. */
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setFlagsFromString } from 'node:v8';
import { errnoOf } from '../../block/errors.ts';
import type { GraphSetup } from '../../block/graph.ts';
import { askSecret } from '../secrets.ts';
import { LogFile } from '../../sys/log-file.ts';
import { keepOnExec } from '../../sys/fdsets.ts';
import { nameThisProcess } from '../../sys/processes.ts';
import { directDebug } from '../debug-output.ts';
import { complain, logInto } from '../output.ts';
import type { ServeReport, ServeRequest } from './messages.ts';
import { Server } from './server.ts';
import { handedDescriptors } from './handed.ts';
import { selfCommand, serverEnvironment, THREADS } from './self.ts';
import { ServiceManager } from './service-manager.ts';

/** Descriptor number. */
const LAUNCHER = 3;

/** As a process of its own, told what to do by its launcher. */
export async function serve(): Promise<number> {
  const launcher = new Launcher();
  const request = await launcher.request();
  if (request === undefined) return 1;
  let server: Server;
  try {
    server = await startServer(request, (message) => {
      launcher.tell({ type: 'warning', message });
    });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    launcher.tell({ type: 'failed', code: errnoOf(error), message });
    await launcher.close();
    return exitWith(1);
  }
  // Nobody waits for this mount any more (^C): it must not stay behind.
  if (launcher.isGone) await server.end(true).catch(() => undefined);
  // Whatever file system it was started in can be unmounted.
  process.chdir('/');
  const { metrics, exports } = server;
  launcher.tell({ type: 'ready', pid: process.pid, mounts: exports.mounts, metrics });
  await launcher.close();
  return exitWith(await server.ended);
}

/** The pipe to the command that started this process. */
class Launcher {
  isGone = false;
  private readonly pipe = new Socket({ fd: LAUNCHER });

  constructor() {
    // An error is followed by 'close', and means the same: the launcher is gone.
    this.pipe.on('error', () => undefined);
    this.pipe.on('close', () => {
      this.isGone = true;
    });
  }

  async request(): Promise<ServeRequest | undefined> {
    const lines = createInterface({ input: this.pipe });
    for await (const line of lines) {
      this.pipe.resume();
      return JSON.parse(line) as ServeRequest;
    }
    return undefined;
  }

  tell(report: ServeReport): void {
    if (!this.isGone) this.pipe.write(`${JSON.stringify(report)}\n`);
  }

  close(): Promise<void> {
    if (this.isGone) return Promise.resolve();
    return new Promise((resolve) => this.pipe.end(resolve));
  }
}

/** In the process of the command, until the mount ends. */
export async function serveForeground(request: ServeRequest, tellFiles = true): Promise<number> {
  restartWithThreads(handedDescriptors(request.steps));
  const manager = ServiceManager.fromEnvironment();
  const warn = (message: string): void => {
    complain(`warning: ${message}`);
  };
  const server = await startServer(request, warn, askSecret);
  const { mounts } = server.exports;
  if (manager !== undefined) {
    server.ending = once(() => {
      manager.stopping();
    });
    manager.ready(`Serving ${mounts.map(({ file }) => file).join(', ')}`);
  }
  if (tellFiles) for (const { file } of mounts) process.stdout.write(`${file}\n`);
  return exitWith(await server.ended);
}

/** The name by which `ps` and other programs' messages about locks know a server. */
const NAME = 'blockfuse';

async function startServer(
  request: ServeRequest,
  warn: (message: string) => void,
  ask?: GraphSetup['askSecret'],
): Promise<Server> {
  keepMemorySmall();
  nameThisProcess(NAME);
  if (request.logFile !== undefined) writeLog(request.logFile);
  const signals = new EarlySignals();
  const server = await Server.start(request, warn, ask).catch((error: unknown) => {
    if (request.logFile !== undefined) endLog(error);
    throw error;
  });
  if (signals.end()) void server.end(true).catch(() => undefined);
  process.on('unhandledRejection', complainInternal);
  // What is in memory is written back as far as it goes: better than to die with it.
  process.once('uncaughtException', (error) => {
    complainInternal(error);
    void server.end(true).catch(() => undefined);
  });
  return server;
}

/** For whoever rotates logs: SIGHUP means that the file was renamed. */
function writeLog(path: string): void {
  const log = new LogFile(path);
  logInto((text) => {
    log.add(text);
  });
  directDebug();
  process.on('SIGHUP', () => {
    try {
      log.reopen();
    } catch (error) {
      complain(error instanceof Error ? error.message : String(error));
    }
  });
}

/** Why there will be no server is for the log, and for who has asked for one. */
function endLog(error: unknown): void {
  complain(error instanceof Error ? error.message : String(error));
  logInto(undefined);
}

/** A signal while the server starts must not kill it half-way, with a mount left behind. */
class EarlySignals {
  private came = false;
  private readonly note = (): void => {
    this.came = true;
  };

  constructor() {
    process.on('SIGTERM', this.note).on('SIGINT', this.note);
  }

  /** Whether one came. */
  end(): boolean {
    process.off('SIGTERM', this.note).off('SIGINT', this.note);
    return this.came;
  }
}

function once(action: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) action();
    isDone = true;
  };
}

function complainInternal(error: unknown): void {
  complain(`internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
}

/** The size of libuv's thread pool is decided by the environment that a process starts with. */
export function restartWithThreads(descriptors: readonly number[] = []): void {
  if (process.env[THREADS] !== undefined) return;
  for (const fd of descriptors) keepOnExec(fd);
  const [program, argv] = selfCommand(process.argv.slice(2));
  process.execve?.(program, [program, ...argv], serverEnvironment());
}

/** Nothing is left to wait for: a stray handle must not keep the process. */
function exitWith(code: number): never {
  process.exit(code);
}

/** Buffers live outside of V8's heap: a young generation that grows with the traffic of slow requests only takes memory. */
function keepMemorySmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
}
