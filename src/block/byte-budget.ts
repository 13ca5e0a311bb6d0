/** Bounds the memory of work under way: whoever wants more than is left waits, first come first served. */
export class ByteBudget {
  private readonly total: number;
  private taken = 0;
  private readonly waiting: { bytes: number; resume: () => void }[] = [];

  constructor(total: number) {
    this.total = total;
  }

  /** Runs `work` while `bytes` of the budget are its own. More than the whole budget is had alone. */
  async run<Result>(bytes: number, work: () => Promise<Result>): Promise<Result> {
    const wanted = Math.min(bytes, this.total);
    if (this.waiting.length > 0 || this.taken + wanted > this.total) {
      await new Promise<void>((resume) => {
        this.waiting.push({ bytes: wanted, resume });
      });
    } else {
      this.taken += wanted;
    }
    try {
      return await work();
    } finally {
      this.taken -= wanted;
      this.wake();
    }
  }

  private wake(): void {
    for (let [first] = this.waiting; first !== undefined; [first] = this.waiting) {
      if (this.taken + first.bytes > this.total) return;
      this.waiting.shift();
      this.taken += first.bytes;
      first.resume();
    }
  }
}
