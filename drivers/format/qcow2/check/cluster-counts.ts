import { BlockError } from '../../../../src/block/errors.ts';

/** Clusters that are counted together. */
const CHUNK = 16384;
const PACKED_MAX = 3;
const BYTE_MAX = 255;
const COUNT_MAX = 2 ** 32 - 1;
const BYTES_MAX = 256 * 1024 * 1024;

/** Two bits a cluster (a quarter of CHUNK bytes), one byte, or a word. */
type Chunk = Uint8Array | Uint32Array;

/**
 * A number for each host cluster, such as how often tables name it. Only chunks in use take memory, and the widths of
 * their numbers grow with them: an image of 16 TiB with clusters of 64 KiB takes 64 MiB.
 */
export class ClusterCounts {
  /** One past the highest cluster that was counted. */
  end = 0;
  private readonly chunks = new Map<number, Chunk>();
  private readonly subject: string;
  private bytes = 0;
  private lastIndex = -1;
  private last: Chunk = new Uint8Array(0);

  /** @param subject the image, for the error when it would take over 256 MiB: its clusters are strewn over a huge file */
  constructor(subject: string) {
    this.subject = subject;
  }

  get(cluster: number): number {
    const chunk = this.find(Math.floor(cluster / CHUNK));
    return chunk === undefined ? 0 : read(chunk, cluster % CHUNK);
  }

  set(cluster: number, count: number): void {
    const index = Math.floor(cluster / CHUNK);
    let chunk = this.find(index) ?? this.insert(index, new Uint8Array(CHUNK / 4));
    const at = cluster % CHUNK;
    if (count > PACKED_MAX && chunk.length < CHUNK) chunk = this.widen(index, chunk, new Uint8Array(CHUNK));
    if (count > BYTE_MAX && chunk instanceof Uint8Array)
      chunk = this.widen(index, chunk, new Uint32Array(CHUNK));
    write(chunk, at, Math.min(count, COUNT_MAX));
    if (cluster >= this.end) this.end = cluster + 1;
  }

  /**
   * The usual case, in few steps: makes the number larger by `more` where it stays up to `most` and needs no more room. False,
   * with nothing done, where not.
   */
  tryAdd(cluster: number, more: number, most: number): boolean {
    const index = Math.floor(cluster / CHUNK);
    const chunk = this.find(index) ?? this.insert(index, new Uint8Array(CHUNK / 4));
    if (chunk.length === CHUNK) return false;
    const place = cluster % CHUNK;
    const at = place >>> 2;
    const shift = (place & 3) * 2;
    const byte = chunk[at] ?? 0;
    const count = ((byte >>> shift) & PACKED_MAX) + more;
    if (count > PACKED_MAX || count > most) return false;
    chunk[at] = byte + (more << shift);
    if (cluster >= this.end) this.end = cluster + 1;
    return true;
  }

  /** The numbers of the clusters from `first` on, as many as `out` takes. */
  copy(first: number, out: Float64Array): void {
    for (let done = 0; done < out.length;) {
      const from = (first + done) % CHUNK;
      const length = Math.min(out.length - done, CHUNK - from);
      const chunk = this.find(Math.floor((first + done) / CHUNK));
      if (chunk === undefined) out.fill(0, done, done + length);
      else for (let at = 0; at < length; at += 1) out[done + at] = read(chunk, from + at);
      done += length;
    }
  }

  /** Whether any of [first, first + count) is not 0. */
  anyIn(first: number, count: number): boolean {
    for (let cluster = first; cluster < first + count; cluster += 1) {
      const chunk = this.find(Math.floor(cluster / CHUNK));
      if (chunk === undefined) cluster += CHUNK - (cluster % CHUNK) - 1;
      else if (read(chunk, cluster % CHUNK) !== 0) return true;
    }
    return false;
  }

  private find(index: number): Chunk | undefined {
    if (index === this.lastIndex) return this.last;
    const chunk = this.chunks.get(index);
    if (chunk === undefined) return undefined;
    this.lastIndex = index;
    this.last = chunk;
    return chunk;
  }

  private insert(index: number, chunk: Chunk): Chunk {
    this.bytes += chunk.byteLength;
    if (this.bytes > BYTES_MAX) {
      const what = `its clusters are strewn over so large a file that counting them takes over ${BYTES_MAX} bytes`;
      throw new BlockError('EFBIG', `Cannot check image "${this.subject}": ${what}`);
    }
    this.chunks.set(index, chunk);
    this.lastIndex = index;
    this.last = chunk;
    return chunk;
  }

  private widen(index: number, chunk: Chunk, wider: Chunk): Chunk {
    for (let at = 0; at < CHUNK; at += 1) write(wider, at, read(chunk, at));
    this.bytes -= chunk.byteLength;
    return this.insert(index, wider);
  }
}

function read(chunk: Chunk, at: number): number {
  return chunk.length === CHUNK ? (chunk[at] ?? 0) : ((chunk[at >> 2] ?? 0) >> ((at & 3) * 2)) & 3;
}

function write(chunk: Chunk, at: number, count: number): void {
  if (chunk.length === CHUNK) {
    chunk[at] = count;
    return;
  }
  const shift = (at & 3) * 2;
  chunk[at >> 2] = ((chunk[at >> 2] ?? 0) & ~(3 << shift)) | (count << shift);
}
