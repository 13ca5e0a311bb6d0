/** Where an LZ decoder writes: a buffer of known size, bytes from its input and copies of what it wrote before. */
export class LzOutput {
  readonly bytes: Buffer;
  at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }

  literal(source: Buffer, from: number, length: number): void {
    if (from + length > source.length) throw new RangeError('the input ends too early');
    if (this.at + length > this.bytes.length) throw new RangeError(`more than ${this.bytes.length} bytes`);
    source.copy(this.bytes, this.at, from, from + length);
    this.at += length;
  }

  match(distance: number, length: number): void {
    const { bytes, at } = this;
    if (distance < 1 || distance > at)
      throw new RangeError(`a distance of ${distance}, only ${at} bytes are there`);
    if (at + length > bytes.length) throw new RangeError(`more than ${bytes.length} bytes`);
    const source = at - distance;
    if (distance >= length) bytes.copyWithin(at, source, source + length);
    else for (let index = 0; index < length; index += 1) bytes[at + index] = bytes[source + index] ?? 0;
    this.at += length;
  }

  /** The whole, which must be full. */
  finish(): Buffer {
    if (this.at === this.bytes.length) return this.bytes;
    throw new RangeError(`${this.at} bytes, wanted ${this.bytes.length}`);
  }
}
