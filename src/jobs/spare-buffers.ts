/** Buffers of one size, used again and again: fresh memory costs the kernel more than what is done in it. */
export class SpareBuffers {
  private readonly size: number;
  private readonly spare: Buffer[] = [];

  constructor(size: number) {
    this.size = size;
  }

  /** Runs `use` with a buffer of its own, whatever its content. It is lost when `use` fails: something may still fill it. */
  async with<Result>(use: (room: Buffer) => Promise<Result>): Promise<Result> {
    const room = this.spare.pop() ?? Buffer.allocUnsafeSlow(this.size);
    const result = await use(room);
    this.spare.push(room);
    return result;
  }
}
