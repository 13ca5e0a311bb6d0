const KEPT = 16;

/** Memory to read compressed clusters into, used again and again: fresh memory costs the kernel more than the read. */
export class PackedBuffers {
  private readonly usual: number;
  private readonly spare: ArrayBuffer[] = [];

  /** @param usual bytes that most reads stay within */
  constructor(usual: number) {
    this.usual = usual;
  }

  take(length: number): Buffer {
    if (length > this.usual) return Buffer.allocUnsafeSlow(length);
    return Buffer.from(this.spare.pop() ?? new ArrayBuffer(this.usual), 0, length);
  }

  /** Nobody looks at the bytes any longer. */
  give({ buffer }: Buffer): void {
    const isUsual = buffer instanceof ArrayBuffer && buffer.byteLength === this.usual;
    if (isUsual && this.spare.length < KEPT) this.spare.push(buffer);
  }
}
