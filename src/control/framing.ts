/** Longest request taken, in characters. QEMU's own limit is 64 MiB; no request of ours is near this. */
const MAX_REQUEST = 4 * 2 ** 20;
/** QEMU's limit. */
const MAX_DEPTH = 1024;

/**
 * Cuts a stream of characters into JSON texts, as QMP sends them: objects one after the other, with or without line
 * ends between. Knows braces and strings only; what it hands out may still fail to parse. Looks at each character once.
 */
export class JsonSplitter {
  /** Of the text that has begun and not ended, the chunks before this one. */
  private parts: string[] = [];
  private length = 0;
  private depth = 0;
  private inString = false;
  private isEscaped = false;
  /** Something other than blanks has come. */
  private hasBegun = false;

  /** The complete texts that `chunk` ends, in order. Throws a RangeError when one grows beyond the limits. */
  push(chunk: string): string[] {
    const complete: string[] = [];
    let start = 0;
    for (let at = 0; at < chunk.length; at += 1) {
      const ends = this.endsText(chunk[at] ?? '');
      if (this.depth > MAX_DEPTH) throw new RangeError('JSON nesting depth limit exceeded');
      if (!ends) continue;
      complete.push([...this.parts, chunk.slice(start, at + 1)].join('').trim());
      start = at + 1;
      this.begin();
    }
    this.keep(chunk.slice(start));
    return complete;
  }

  private keep(rest: string): void {
    if (!this.hasBegun) return;
    this.parts.push(rest);
    this.length += rest.length;
    if (this.length > MAX_REQUEST) throw new RangeError(`a request is longer than ${MAX_REQUEST} characters`);
  }

  private begin(): void {
    this.parts = [];
    this.length = 0;
    this.hasBegun = false;
  }

  private endsText(character: string): boolean {
    if (this.inString) {
      if (this.isEscaped) this.isEscaped = false;
      else if (character === '\\') this.isEscaped = true;
      else if (character === '"') this.inString = false;
      return false;
    }
    // Anything but an object at the top level ends with its line: a stray word must not swallow what follows.
    if (character === '\n' && this.depth === 0) return this.hasBegun;
    if (character === ' ' || character === '\r' || character === '\n' || character === '\t') return false;
    this.hasBegun = true;
    if (character === '"') this.inString = true;
    else if (character === '{' || character === '[') this.depth += 1;
    else if (character === '}' || character === ']') return this.closes();
    return false;
  }

  private closes(): boolean {
    this.depth = Math.max(0, this.depth - 1);
    return this.depth === 0;
  }
}
