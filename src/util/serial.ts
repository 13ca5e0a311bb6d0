/** Runs asynchronous jobs one after the other, in the order in which they came. A failed job does not stop the next. */
export class Serial {
  private last: Promise<unknown> = Promise.resolve();

  run<Result>(job: () => Promise<Result>): Promise<Result> {
    const result = this.last.then(job, job);
    this.last = result.catch(() => {});
    return result;
  }
}
