/** Longest request taken, in characters. QEMU's own limit is 64 MiB; no request of ours is near this. */
const MAX_REQUEST = 4 * 2 ** 20;
/** QEMU's limit. */
const MAX_DEPTH = 1024;

/**
 * Cuts a stream of characters into JSON texts, as QMP sends them: objects one after the other, with or without line
 * ends between. Knows braces and strings only; what it hands out may still fail to parse.
 */
export class JsonSplitter {
  private text = '';
  /** First character not looked at yet, the open braces and brackets before it, and whether it is inside a string. */
  private position = 0;
  private depth = 0;
  private inString = false;

  /** The complete texts that `chunk` ends, in order. Throws a RangeError when one grows beyond the limits. */
  push(chunk: string): string[] {
    this.text += chunk;
    const complete: string[] = [];
    for (; this.position < this.text.length; this.position += 1) {
      const ends = this.endsText(this.text[this.position]);
      if (this.depth > MAX_DEPTH) throw new RangeError('JSON nesting depth limit exceeded');
      if (!ends) continue;
      complete.push(this.text.slice(0, this.position + 1).trim());
      this.text = this.text.slice(this.position + 1);
      this.position = -1;
    }
    if (this.text.trim() === '') this.clear();
    if (this.text.length > MAX_REQUEST)
      throw new RangeError(`a request is longer than ${MAX_REQUEST} characters`);
    return complete;
  }

  private clear(): void {
    this.text = '';
    this.position = 0;
  }

  private endsText(character: string | undefined): boolean {
    if (this.inString) {
      if (character === '\\') this.position += 1;
      else if (character === '"') this.inString = false;
      return false;
    }
    if (character === '"') this.inString = true;
    else if (character === '{' || character === '[') this.depth += 1;
    else if (character === '}' || character === ']') return this.closes();
    // Anything but an object at the top level ends with its line: a stray word must not swallow what follows.
    return character === '\n' && this.depth === 0 && this.text.slice(0, this.position).trim() !== '';
  }

  private closes(): boolean {
    this.depth = Math.max(0, this.depth - 1);
    return this.depth === 0;
  }
}
