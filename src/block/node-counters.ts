/** Requests and bytes that went through a node since it was opened. */
export class NodeCounters {
  reads = 0;
  readBytes = 0;
  writes = 0;
  writtenBytes = 0;
  zeroes = 0;
  discards = 0;
  discardedBytes = 0;
  flushes = 0;
  /** Where the writes that reach furthest end, in bytes. */
  writtenEnd = 0;
  readonly failed = { read: 0, write: 0, flush: 0, discard: 0 };
  /** Requests that the fast path could not finish. */
  slow = 0;
  errors = 0;
}
