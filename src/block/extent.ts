import type { Child } from './child.ts';

/**
 * What a range of a node is:
 * - `data`: stored at `offset` of `child`, byte for byte (after the driver's codec, if it has one).
 *   A protocol driver's own status answers have no child.
 * - `zero`: reads as zeroes, whatever lies below.
 * - `unallocated`: not here; the cow child (backing) decides, zeroes without one.
 * - `opaque`: stored in a form only the driver can read (compressed): `readOpaque`.
 * - `eof`: past the end of the node.
 */
export type ExtentKind = 'data' | 'zero' | 'unallocated' | 'opaque' | 'eof';

/**
 * The answer of `tryMap`, written into an object the caller owns and reuses: the hot path allocates nothing.
 * Valid only while the request that asked for it is tracked, or until the next await if none is.
 */
export class Extent {
  kind: ExtentKind = 'eof';
  /** Bytes from the offset asked for that this answer covers; never more than asked, never 0 but for eof. */
  length = 0;
  /** Set for `data` of mapping drivers only. */
  child: Child | undefined = undefined;
  /** Byte offset in `child` (for protocol drivers: in the file itself) of the offset asked for. */
  offset = 0;
  /** The place may be overwritten where it is, without any change of metadata. */
  writable = false;
  /** The range has a place of its own in this image though it reads as zeroes (preallocated zero cluster). */
  allocated = false;
  /** The data is stored compressed (set with `opaque`). */
  compressed = false;

  setData(child: Child | undefined, offset: number, length: number, writable: boolean): true {
    return this.set('data', child, offset, length, writable);
  }

  /** @param allocated a preallocated zero cluster: it has a place, at `offset` of `child` */
  setZero(length: number, allocated = false, child?: Child, offset = 0): true {
    this.set('zero', child, offset, length, false);
    this.allocated = allocated;
    return true;
  }

  setUnallocated(length: number): true {
    return this.set('unallocated', undefined, 0, length, false);
  }

  setOpaque(length: number, compressed: boolean): true {
    this.set('opaque', undefined, 0, length, false);
    this.compressed = compressed;
    return true;
  }

  setEof(): true {
    return this.set('eof', undefined, 0, 0, false);
  }

  private set(
    kind: ExtentKind,
    child: Child | undefined,
    offset: number,
    length: number,
    writable: boolean,
  ): true {
    this.kind = kind;
    this.child = child;
    this.offset = offset;
    this.length = length;
    this.writable = writable;
    this.allocated = kind === 'data' || kind === 'opaque';
    this.compressed = false;
    return true;
  }
}

/**
 * Where a write goes that needs a new place, named by `tryAllocate` and finished by `commit` or `abort`.
 * The place covers [start, start + length) of the node, start <= the offset asked for. The core fills the whole of it
 * (the request's bytes, and around them what the node read as before) unless `zeroed` lets it skip zeroes.
 */
export class Placement {
  child: Child | undefined = undefined;
  /** Byte offset in `child` of `start`. */
  offset = 0;
  /** First byte of the node that the place covers. */
  start = 0;
  length = 0;
  /** The place already reads as zeroes (never used, past the end of the file). */
  zeroed = false;
  /** The driver's own note, handed back to commit and abort. */
  token: unknown = undefined;
}

/** One run of a node as `map`, SEEK_DATA and `block status` show it, seen through the whole chain. */
export class BlockStatus {
  length = 0;
  /** Holds data that is not known to be zero. */
  data = false;
  /** Known to read as zeroes. */
  zero = false;
  /** Some layer of the chain decides this range (QEMU's "present"). */
  allocated = false;
  compressed = false;
  /** Layers below the node asked: 0 is itself, 1 its backing node. */
  depth = 0;
  /** Byte offset in the file `filename`, or -1 when there is no such place (compressed, zero, encrypted). */
  offset = -1;
  /** Name of the node in whose file the data lies, '' without one. */
  node = '';
}
