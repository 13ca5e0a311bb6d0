/**
 * The life of a server: what a signal, an unmount from outside and the control socket lead to is the same end.
 *
 *   serving --end(lazy)--> unmounting --> closing (flush, close the image) --> ended: exit code 0, or 1 with the errors
 *      ^------- EBUSY --------'
 */
import debug from 'debug';
import { BlockError } from '../../block/errors.ts';
import { ControlServer } from '../../control/server.ts';
import { listenControl } from '../../sys/control-socket.ts';
import type { ControlListener } from '../../sys/control-socket.ts';
import { removePidFile, writePidFile } from '../../sys/pid-file.ts';
import { processStart } from '../../sys/processes.ts';
import { controlSocketPath, enterServer, removeServer } from '../../sys/running-servers.ts';
import type { RunningServer } from '../../sys/running-servers.ts';
import { complain } from '../output.ts';
import { VERSION, versionNumbers } from '../version.ts';
import { controlCommands } from './control-commands.ts';
import type { ServeRequest } from './messages.ts';
import type { ServedDisk } from './served-disk.ts';

const log = debug('blockfuse:server');

export class MountServer {
  readonly disk: ServedDisk;
  /** The exit code, once the image is closed and nothing of the server is left but the process. */
  readonly ended: Promise<number>;
  private readonly request: ServeRequest;
  private readonly entry: RunningServer;
  private listener: ControlListener | undefined;
  /** The flush and close of the image, once begun: whoever ends the server waits for the same one. */
  private closing: Promise<void> | undefined;
  private finish: (code: number) => void = () => undefined;

  constructor(disk: ServedDisk, request: ServeRequest) {
    this.disk = disk;
    this.request = request;
    this.ended = new Promise((resolve) => {
      this.finish = resolve;
    });
    this.entry = {
      pid: process.pid,
      startTime: processStart(process.pid) ?? 0,
      started: new Date().toISOString(),
      mounts: [disk.mount],
      socket: controlSocketPath(process.pid),
      log: request.log,
    };
  }

  /** Makes the server known: control socket, list of servers, pid file, signals. Rejects with nothing left behind. */
  async announce(): Promise<void> {
    const control = new ControlServer(
      { numbers: versionNumbers(), program: `blockfuse ${VERSION}` },
      controlCommands(this),
    );
    try {
      this.listener = await listenControl(this.entry.socket, (send) => {
        const { session, close } = control.connect(send);
        return { receive: (text) => session.receive(text), closed: close };
      });
      enterServer(this.entry);
      if (this.request.pidFile !== undefined) writePidFile(this.request.pidFile);
    } catch (error) {
      await this.disk.unmount(true).catch(complainOf);
      await this.disk.close().catch(complainOf);
      await this.vanish();
      throw error;
    }
    this.watch();
    log('serving %o', this.disk.mount);
  }

  /** What the entry in the list of servers says. */
  describe(): Readonly<Record<string, unknown>> {
    const { pid, started, mounts } = this.entry;
    return { pid, started, version: VERSION, mounts, disk: this.disk.describe() };
  }

  /**
   * Unmounts, flushes and closes. Rejects with EBUSY when in use and not `lazy` (the server goes on), or with what could
   * not be written (the server ends all the same). The process ends after this has settled.
   */
  async end(lazy: boolean): Promise<void> {
    log('asked to end, lazy=%s', lazy);
    if (this.closing === undefined) await this.disk.unmount(lazy);
    await this.close();
  }

  /** The image is flushed and closed; the process may go. */
  private async close(): Promise<void> {
    this.closing ??= this.disk.close();
    const error = await this.closing.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    log('image closed, error=%s', error);
    if (error !== undefined) complainOf(error);
    // In the next turn, so that whoever asked for the end over the control socket gets the answer out first.
    setImmediate(() => {
      void this.vanish(error !== undefined).finally(() => {
        this.finish(error === undefined ? 0 : 1);
      });
    });
    if (error !== undefined) throw error;
  }

  private watch(): void {
    const terminate = (): void => {
      void this.terminate();
    };
    process.on('SIGTERM', terminate);
    process.on('SIGINT', terminate);
    // The terminal that started it may close.
    process.on('SIGHUP', () => undefined);
    void this.disk.unmounted.then(() => this.close().catch(() => undefined));
  }

  /** A signal must end the server: what is in use is detached, its users get errors from then on. */
  private async terminate(): Promise<void> {
    try {
      await this.end(false);
    } catch (error) {
      if (!(error instanceof BlockError) || error.code !== 'EBUSY') return;
      complain(`${error.message}; detached because of a signal`);
      await this.end(true).catch(() => undefined);
    }
  }

  private async vanish(keepLog = false): Promise<void> {
    await this.listener?.close();
    if (this.request.pidFile !== undefined) removePidFile(this.request.pidFile);
    removeServer(this.entry, keepLog);
  }
}

function complainOf(error: unknown): void {
  complain(error instanceof Error ? error.message : String(error));
}
