import type { Cancellable } from './export.ts';
import type { Unique } from './replies.ts';

/** A request that could not be answered at once. */
export class SlowRequest implements Cancellable {
  readonly unique: Unique;
  cancel: (() => void) | undefined = undefined;

  constructor(unique: Unique) {
    this.unique = unique;
  }
}

const MAX_REQUESTS = 256;
const WORD = 2 ** 32;

/** The requests under way beside the hot path, and how many there may be before the device is not read any more. */
export class SlowRequests {
  private readonly requests = new Map<number, SlowRequest>();
  private idleWaiters: (() => void)[] = [];

  get count(): number {
    return this.requests.size;
  }

  get isFull(): boolean {
    return this.requests.size >= MAX_REQUESTS;
  }

  begin(unique: Unique): SlowRequest {
    const request = new SlowRequest(unique);
    this.requests.set(unique.high * WORD + unique.low, request);
    return request;
  }

  end(request: SlowRequest): void {
    this.requests.delete(request.unique.high * WORD + request.unique.low);
    if (this.requests.size > 0) return;
    const waiters = this.idleWaiters;
    this.idleWaiters = [];
    for (const wake of waiters) wake();
  }

  /** Resolves when none is under way. */
  idle(): Promise<void> {
    if (this.requests.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.idleWaiters.push(resolve));
  }

  /** INTERRUPT: ends the request if it has not been started; one that is under way goes on. */
  interrupt(unique: number): void {
    this.requests.get(unique)?.cancel?.();
  }
}
