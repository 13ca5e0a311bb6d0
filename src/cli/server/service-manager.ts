/**
 * A server's side of the agreement with the service manager that started it (systemd, Type=notify): READY=1 when the disks
 * can be read, WATCHDOG=1 as long as the event loop turns, STOPPING=1 when the end has begun. The process exits when the
 * images are final.
 */
import { sendNotification } from '../../sys/sd-notify.ts';
import { complain } from '../output.ts';

export class ServiceManager {
  private readonly socket: string;
  private readonly watchdogMs: number | undefined;
  private timer: NodeJS.Timeout | undefined;

  private constructor(socket: string, watchdogMs: number | undefined) {
    this.socket = socket;
    this.watchdogMs = watchdogMs;
  }

  /** Undefined when nobody asked. What this process starts is not to notify in its place. */
  static fromEnvironment(): ServiceManager | undefined {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog, WATCHDOG_PID: pid } = process.env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete process.env[name];
    if (socket === undefined || socket === '') return undefined;
    const isOurs = watchdog !== undefined && (pid === undefined || Number(pid) === process.pid);
    return new ServiceManager(socket, isOurs ? Number(watchdog) / 1000 : undefined);
  }

  /** `status` is shown by `systemctl status`. */
  ready(status: string): void {
    this.send('READY=1', `STATUS=${status.replaceAll('\n', ' ')}`, `MAINPID=${process.pid}`);
    if (this.watchdogMs === undefined) return;
    this.timer = setInterval(() => {
      this.send('WATCHDOG=1');
    }, this.watchdogMs / 2);
    this.timer.unref();
  }

  /** The watchdog goes on: a flush may take long, but the loop must turn. */
  stopping(): void {
    this.send('STOPPING=1', 'STATUS=Writing what is left');
  }

  private send(...lines: string[]): void {
    try {
      sendNotification(this.socket, lines);
    } catch (error) {
      complain(`warning: ${error instanceof Error ? error.message : String(error)}`);
      clearInterval(this.timer);
    }
  }
}
