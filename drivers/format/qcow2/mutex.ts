/** Runs asynchronous sections one after the other, in the order they were asked for. */
export class Mutex {
  private last: Promise<unknown> = Promise.resolve();

  run<Result>(section: () => Promise<Result>): Promise<Result> {
    const result = this.last.then(section);
    this.last = result.catch(() => {});
    return result;
  }
}
