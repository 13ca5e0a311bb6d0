import debug from 'debug';
import { BlockError } from '../block/errors.ts';
import { Job } from './job.ts';
import type { JobSetup } from './job.ts';

const log = debug('blockfuse:jobs');

/** The jobs of a process by id, from their start until they are dismissed. */
export class Jobs {
  private readonly jobs = new Map<string, Job>();
  private readonly running = new Map<string, Promise<void>>();
  private readonly onStatus: (job: Job) => void;

  constructor(onStatus: (job: Job) => void) {
    this.onStatus = onStatus;
  }

  get all(): readonly Job[] {
    return [...this.jobs.values()];
  }

  find(id: string): Job | undefined {
    return this.jobs.get(id);
  }

  start(setup: JobSetup): Job {
    if (this.jobs.has(setup.id)) throw new BlockError('EEXIST', `Job ID '${setup.id}' already in use`);
    const job = new Job(setup, (changed) => {
      log('%s: %s', changed.id, changed.status);
      if (changed.status === 'null') this.jobs.delete(changed.id);
      this.onStatus(changed);
    });
    this.jobs.set(job.id, job);
    this.running.set(
      job.id,
      job.run().finally(() => this.running.delete(job.id)),
    );
    return job;
  }

  /** Cancels what still runs and waits for its end. */
  async close(): Promise<void> {
    for (const id of this.running.keys()) this.jobs.get(id)?.stop();
    await Promise.all(this.running.values());
  }
}
