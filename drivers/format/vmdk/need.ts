/**
 * What a try that returned false has to wait for. The core calls `load` in the same turn as that try, and `load` takes
 * the slot before anything else runs: one slot is enough for the whole image.
 */
export class Need {
  private job: (() => Promise<void>) | undefined = undefined;

  /** Always false: `return need.want(...)`. */
  want(job: () => Promise<void>): false {
    this.job = job;
    return false;
  }

  async load(): Promise<void> {
    const { job } = this;
    this.job = undefined;
    await job?.();
  }
}
