/** Notices who reads block after block, and has the next ones got before they are asked for. Allocates nothing. */
export class ReadAhead {
  private readonly depth: number;
  private readonly get: (index: number) => boolean;
  private next = -1;
  private until = -1;

  /**
   * @param depth blocks to be ahead
   * @param get starts getting a block unless it is there; false: not now, nor those behind it. Must not throw
   */
  constructor(depth: number, get: (index: number) => boolean) {
    this.depth = depth;
    this.get = get;
  }

  /** Blocks `first` to `last` are being read. */
  note(first: number, last: number): void {
    const goesOn = first === this.next || first + 1 === this.next;
    this.next = last + 1;
    if (!goesOn || this.until < this.next) this.until = this.next;
    if (!goesOn) return;
    while (this.until < this.next + this.depth && this.get(this.until)) this.until += 1;
  }
}
