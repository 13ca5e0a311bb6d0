/**
 * A random, concurrent workload over a disk, compared byte by byte with a model.
 *
 * Requests that change something never overlap one another in bytes (what they leave would be undefined), but
 * they do share clusters, sectors and tables, which is where formats go wrong. A read may overlap anything; what it
 * returns is compared unless a change touched its range while it was under way.
 */
import { difference } from './model-disk.ts';
import type { ModelDisk } from './model-disk.ts';
import type { Random } from './random.ts';

/** What is exercised. */
export interface Disk {
  read(bytes: Buffer, offset: number): Promise<void>;
  write(bytes: Buffer, offset: number): Promise<void>;
  zero(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** Left out where the disk has none. */
  discard?(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
}

export interface Exercise {
  readonly random: Random;
  readonly operations: number;
  /** Requests under way at once. */
  readonly concurrency: number;
  readonly maxLength: number;
  /** Offsets and lengths are multiples; 1 by default. */
  readonly alignment?: number;
  /** Sizes at whose borders things happen: clusters, sectors. */
  readonly borders?: readonly number[];
  /** A discarded range must read as zeroes (true), or as zeroes or as before (false, the default). */
  readonly discardZeroes?: boolean;
  /** Whether a request may be refused with this error; its range then reads as before or as after, byte by byte. */
  mayFail?(error: unknown): boolean;
}

type Kind = 'read' | 'write' | 'zero' | 'discard' | 'flush';

const WEIGHTS: readonly (readonly [Kind, number])[] = [
  ['read', 35],
  ['write', 40],
  ['zero', 10],
  ['discard', 10],
  ['flush', 5],
];

interface Request {
  readonly kind: Kind;
  readonly offset: number;
  readonly length: number;
  /** A change overlapped this read: nothing can be said about it. */
  blurred: boolean;
}

export interface ExerciseReport {
  readonly requests: number;
  readonly compared: number;
  readonly refused: number;
}

/** Runs the workload; rejects at the first difference. Afterwards `verify` compares the whole disk. */
export async function exercise(disk: Disk, model: ModelDisk, options: Exercise): Promise<ExerciseReport> {
  const run = new Run(disk, model, options);
  await Promise.all(Array.from({ length: options.concurrency }, () => run.work()));
  return run.report();
}

/** Reads the whole disk and compares it with the model. */
export async function verify(disk: Pick<Disk, 'read'>, model: ModelDisk, step = 1024 * 1024): Promise<void> {
  const bytes = Buffer.alloc(step);
  for (let at = 0; at < model.size; at += step) {
    const piece = bytes.subarray(0, Math.min(step, model.size - at));
    piece.fill(0xdb);
    await disk.read(piece, at);
    const found = difference(piece, model.read(at, piece.length), at);
    if (found !== undefined) throw new Error(`The disk is not what was written: ${found}`);
  }
}

class Run {
  private readonly disk: Disk;
  private readonly model: ModelDisk;
  private readonly options: Exercise;
  private readonly pool: Buffer;
  private readonly underWay = new Set<Request>();
  private left: number;
  private compared = 0;
  private refused = 0;
  private failed = false;

  constructor(disk: Disk, model: ModelDisk, options: Exercise) {
    this.disk = disk;
    this.model = model;
    this.options = options;
    this.left = options.operations;
    this.pool = options.random.bytes(options.maxLength * 2);
  }

  async work(): Promise<void> {
    while (this.left > 0 && !this.failed) {
      this.left -= 1;
      const request = this.choose();
      this.underWay.add(request);
      try {
        await this.perform(request);
      } catch (error) {
        this.failed = true;
        throw new Error(`${request.kind} of ${request.length} at ${request.offset}: ${String(error)}`, {
          cause: error,
        });
      } finally {
        this.underWay.delete(request);
      }
    }
  }

  report(): ExerciseReport {
    const { operations } = this.options;
    return { requests: operations - Math.max(0, this.left), compared: this.compared, refused: this.refused };
  }

  private choose(): Request {
    const kind = this.chooseKind();
    for (let tries = 0; tries < 100; tries += 1) {
      const request = { kind, ...this.chooseRange(), blurred: false };
      const overlapping = [...this.underWay].filter((other) => overlap(request, other));
      if (kind === 'flush') return request;
      if (kind === 'read') {
        request.blurred = overlapping.some((other) => changes(other.kind));
        return request;
      }
      if (overlapping.some((other) => changes(other.kind))) continue;
      for (const other of overlapping) other.blurred = true;
      return request;
    }
    return { kind: 'flush', offset: 0, length: 0, blurred: false };
  }

  private chooseKind(): Kind {
    let point = this.options.random.below(WEIGHTS.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [kind, weight] of WEIGHTS) {
      if (point < weight) return kind === 'discard' && this.disk.discard === undefined ? 'write' : kind;
      point -= weight;
    }
    return 'flush';
  }

  private chooseRange(): { offset: number; length: number } {
    const { random, maxLength, alignment = 1, borders = [] } = this.options;
    const unit = Math.max(alignment, random.pick([1, 512, 4096, ...borders]));
    const { size } = this.model;
    const near = random.chance(0.5) ? Math.min(size, maxLength * 4) : size;
    let offset = Math.floor(random.below(near) / unit) * unit;
    if (random.chance(0.3)) offset = Math.floor(this.besideAnother() / alignment) * alignment;
    else if (random.chance(0.1)) offset = size - Math.ceil((random.below(maxLength) + 1) / unit) * unit;
    offset = Math.max(0, Math.min(offset, size - alignment));
    const longest = Math.min(maxLength, size - offset);
    const wanted = random.chance(0.5)
      ? random.below(longest) + 1
      : random.below(Math.min(longest, unit * 4)) + 1;
    const length = Math.min(longest, Math.ceil(wanted / alignment) * alignment);
    return { offset, length: length - (length % alignment) || Math.min(alignment, longest) };
  }

  /** Right behind, or shortly before, a request that is under way: where the two share a cluster. */
  private besideAnother(): number {
    const { random } = this.options;
    const others = [...this.underWay];
    if (others.length === 0) return 0;
    const other = random.pick(others);
    return random.chance(0.5) ? other.offset + other.length : other.offset - random.between(1, 2048);
  }

  private async perform(request: Request): Promise<void> {
    const { offset, length } = request;
    switch (request.kind) {
      case 'read':
        await this.read(request);
        return;
      case 'write': {
        const from = this.options.random.below(this.pool.length - length);
        const zeroes = this.options.random.chance(0.05);
        const bytes = zeroes ? Buffer.alloc(length) : Buffer.from(this.pool.subarray(from, from + length));
        await this.change(request, bytes, () => this.disk.write(bytes, offset));
        return;
      }
      case 'zero': {
        const unmap = this.options.random.chance(0.5);
        await this.change(request, Buffer.alloc(length), () => this.disk.zero(offset, length, unmap));
        return;
      }
      case 'discard':
        await this.discard(request);
        return;
      case 'flush':
        await this.disk.flush();
    }
  }

  private async read(request: Request): Promise<void> {
    const bytes = Buffer.alloc(request.length, 0xdb);
    await this.disk.read(bytes, request.offset);
    if (request.blurred) return;
    const found = difference(bytes, this.model.read(request.offset, request.length), request.offset);
    if (found !== undefined) throw new Error(`wrong content ${found}`);
    this.compared += 1;
  }

  private async change(request: Request, after: Buffer, perform: () => Promise<void>): Promise<void> {
    try {
      await perform();
    } catch (error) {
      if (this.options.mayFail?.(error) !== true) throw error;
      this.refused += 1;
      await this.adopt(request, after);
      return;
    }
    this.model.write(after, request.offset);
  }

  private async discard(request: Request): Promise<void> {
    const zeroes = Buffer.alloc(request.length);
    await this.change(request, zeroes, async () => {
      await this.disk.discard?.(request.offset, request.length);
      if (this.options.discardZeroes !== true) throw new UndefinedContent();
    }).catch(async (error: unknown) => {
      if (!(error instanceof UndefinedContent)) throw error;
      await this.adopt(request, zeroes);
    });
  }

  /** Takes over what the disk now has where it may be the old or the new content, byte by byte. */
  private async adopt(request: Request, after: Buffer): Promise<void> {
    const before = this.model.read(request.offset, request.length);
    const now = Buffer.alloc(request.length, 0xdb);
    await this.disk.read(now, request.offset);
    for (let at = 0; at < now.length; at += 1) {
      if (now[at] === before[at] || now[at] === after[at]) continue;
      throw new Error(`content at ${request.offset + at} is neither what was there nor what was to be there`);
    }
    this.model.write(now, request.offset);
  }
}

class UndefinedContent extends Error {}

const changes = (kind: Kind): boolean => kind === 'write' || kind === 'zero' || kind === 'discard';

const overlap = (one: Request, other: Request): boolean =>
  one.offset < other.offset + other.length && other.offset < one.offset + one.length;
