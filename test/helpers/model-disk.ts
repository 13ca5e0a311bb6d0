/** A disk that is sure to be right: what every test compares with. */
export class ModelDisk {
  bytes: Buffer;

  constructor(size: number) {
    this.bytes = Buffer.alloc(size);
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, length: number): Buffer {
    return this.bytes.subarray(offset, offset + length);
  }

  write(bytes: Buffer, offset: number): void {
    bytes.copy(this.bytes, offset);
  }

  zero(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }

  resize(size: number): void {
    const bytes = Buffer.alloc(size);
    this.bytes.copy(bytes);
    this.bytes = bytes;
  }

  clone(): ModelDisk {
    const copy = new ModelDisk(this.size);
    this.bytes.copy(copy.bytes);
    return copy;
  }
}

/** Where two pieces of a disk differ first, in words; undefined when they don't. `base` is the offset of the pieces. */
export function difference(actual: Buffer, expected: Buffer, base = 0): string | undefined {
  if (actual.equals(expected)) return undefined;
  if (actual.length !== expected.length) return `${actual.length} bytes, wanted ${expected.length}`;
  const first = firstDifference(actual, expected);
  let differing = 0;
  for (let at = first; at < actual.length; at += 1) differing += actual[at] === expected[at] ? 0 : 1;
  const show = (bytes: Buffer): string => bytes.subarray(first, first + 16).toString('hex');
  return `at ${base + first} (${differing} bytes differ): ${show(actual)}, wanted ${show(expected)}`;
}

function firstDifference(actual: Buffer, expected: Buffer): number {
  let at = 0;
  while (actual[at] === expected[at]) at += 1;
  return at;
}
