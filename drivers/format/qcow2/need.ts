/**
 * What the try that just returned false lacked. One slot is enough: the core calls load() in the same turn as that try,
 * and load() takes the slot at its start, before anything else can run.
 */
export class Need {
  private wanted: (() => Promise<void>) | undefined = undefined;

  /** For `return need.want(...)`: always false. */
  want(load: () => Promise<void>): false {
    this.wanted = load;
    return false;
  }

  async load(): Promise<void> {
    const { wanted } = this;
    this.wanted = undefined;
    await wanted?.();
  }
}
