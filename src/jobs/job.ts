/**
 * Work in the background, with QEMU's life of a job:
 *
 *   created -> running -> waiting -> pending -> concluded -> null (dismissed)
 *                 |                     |            ^
 *                 +------ error, cancel +-> aborting-+
 */
import { BlockError } from '../block/errors.ts';

export type JobStatus = 'created' | 'running' | 'waiting' | 'pending' | 'aborting' | 'concluded' | 'null';

export interface JobContext {
  readonly signal: AbortSignal;
  /** Units of the job's own choice. */
  progress(current: number, total: number): void;
}

export interface JobSetup {
  readonly id: string;
  /** QEMU's word: `create`. */
  readonly type: string;
  run(control: JobContext): Promise<void>;
  /** Takes effect by itself when the work is done; default true. */
  readonly autoFinalize?: boolean;
  /** Goes by itself when it has ended; default false. */
  readonly autoDismiss?: boolean;
}

export class Job {
  readonly id: string;
  readonly type: string;
  readonly progress = { current: 0, total: 1 };
  /** Why it failed; undefined unless it did. */
  error: string | undefined = undefined;
  private readonly setup: JobSetup;
  private readonly onStatus: (job: Job) => void;
  private readonly controller = new AbortController();
  private current: JobStatus = 'created';
  private release: () => void = () => undefined;

  /** @param onStatus told of each change of the status, the first one included */
  constructor(setup: JobSetup, onStatus: (job: Job) => void) {
    this.id = setup.id;
    this.type = setup.type;
    this.setup = setup;
    this.onStatus = onStatus;
    onStatus(this);
  }

  get status(): JobStatus {
    return this.current;
  }

  /** Runs it to its end; never rejects. */
  async run(): Promise<void> {
    this.become('running');
    try {
      await this.setup.run({
        signal: this.controller.signal,
        progress: (current, total) => Object.assign(this.progress, { current, total }),
      });
      this.controller.signal.throwIfAborted();
      this.progress.current = this.progress.total;
      this.become('waiting');
      this.become('pending');
      if (this.setup.autoFinalize === false) await new Promise<void>((resolve) => (this.release = resolve));
      this.controller.signal.throwIfAborted();
    } catch (error) {
      this.progress.current = this.progress.total;
      this.error = error instanceof Error ? error.message : String(error);
      this.become('aborting');
    }
    this.become('concluded');
    if (this.setup.autoDismiss === true) this.become('null');
  }

  cancel(): void {
    if (this.current === 'concluded' || this.current === 'aborting') this.refuse('cancel');
    this.stop();
  }

  /** The same, whatever its state. */
  stop(): void {
    this.controller.abort(new BlockError('ECANCELED', 'Operation canceled'));
    this.release();
  }

  finalize(): void {
    if (this.current !== 'pending') this.refuse('finalize');
    this.release();
  }

  /** Forgets it. */
  dismiss(): void {
    if (this.current !== 'concluded') this.refuse('dismiss');
    this.become('null');
  }

  private refuse(verb: string): never {
    const text = `Job '${this.id}' in state '${this.current}' cannot accept command verb '${verb}'`;
    throw new BlockError('EINVAL', text);
  }

  private become(status: JobStatus): void {
    this.current = status;
    this.onStatus(this);
  }
}
