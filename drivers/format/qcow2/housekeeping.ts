import debug from 'debug';

const log = debug('blockfuse:qcow2');

/** Freed clusters are given back within about this time though nobody flushes. */
const FREE_DELAY_MS = 1000;
/** At once when so many are waiting. */
const FREES_MAX = 16384;

/** Starts writebacks that nobody asked for. Their errors are those of the next flush, which tries again. */
export class Housekeeping {
  private readonly subject: string;
  private readonly writeBack: () => Promise<void>;
  private timer: NodeJS.Timeout | undefined = undefined;
  private running = false;
  /** More was freed while a writeback ran: it may have come too late for that one. */
  private again = false;
  private closed = false;

  constructor(subject: string, writeBack: () => Promise<void>) {
    this.subject = subject;
    this.writeBack = writeBack;
  }

  /** Clusters were freed; so many are pending now. */
  freed(pending: number): void {
    if (this.closed) return;
    this.again = this.running;
    if (this.running) return;
    if (pending >= FREES_MAX) {
      this.run();
    } else if (this.timer === undefined) {
      this.timer = setTimeout(() => {
        this.run();
      }, FREE_DELAY_MS).unref();
    }
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  private run(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.running = true;
    this.writeBack()
      .catch((error: unknown) => {
        log('%s: writeback in the background failed: %o', this.subject, error);
      })
      .finally(() => {
        this.running = false;
        if (this.again) this.freed(0);
      });
  }
}
