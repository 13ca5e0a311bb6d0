/**
 * Nodes that share one set of limits. Requests pass at once while the buckets allow; else they wait in the queues of their
 * member, reads and writes apart. Of the members with something waiting, the one that has had the least so far is next:
 *
 *     member a: [w][w][w]  served 3.1 s worth            member b: [w]  served 2.9 s worth  <- next
 *
 * A member that comes back after a pause starts near the share of the others: it has no claim on what it did not use, but
 * for the moment that it takes to send the next request.
 */
import { BlockError } from './errors.ts';
import type { GraphObject, ObjectType } from './objects.ts';
import * as v from 'valibot';
import type { BucketName, ThrottleLimits } from './throttle-limits.ts';
import { BUCKETS, GROUP_ENTRIES, LIMIT_ENTRIES, limitValues, throttleLimits } from './throttle-limits.ts';
import { LeakyBucket } from '../util/leaky-bucket.ts';

const TYPE = 'throttle-group';
/** Seconds' worth of the limits. */
const CREDIT = 0.1;
/** Milliseconds in which one who asks for one thing after the other asks for the next. */
const MOMENT = 20;

interface Waiting {
  readonly bytes: number;
  readonly go: () => void;
}

const DIRECTIONS: Readonly<Record<'read' | 'write', readonly BucketName[]>> = {
  read: ['bps-total', 'bps-read', 'iops-total', 'iops-read'],
  write: ['bps-total', 'bps-write', 'iops-total', 'iops-write'],
};
type Direction = keyof typeof DIRECTIONS;

/** One node of a group. */
export class ThrottleMember {
  readonly user: string;
  /** Seconds' worth of the limits that it has had; compared with others' only. */
  served = 0;
  /** On the clock of performance.now(). */
  lastPassed = 0;
  /** While above 0 nothing waits: the graph is about to change. */
  bypass = 0;
  readonly queues: Readonly<Record<Direction, Waiting[]>> = { read: [], write: [] };
  private readonly group: ThrottleGroup;

  constructor(group: ThrottleGroup, user: string) {
    this.group = group;
    this.user = user;
  }

  /** Whether a request may pass in this turn; when it does, say so with `account`. */
  mayPass(direction: Direction): boolean {
    return this.bypass > 0 || this.group.mayPass(direction);
  }

  account(direction: Direction, bytes: number): true {
    this.group.account(this, direction, bytes);
    return true;
  }

  /** Resolves when the request may go on; it is accounted for then. */
  async pass(direction: Direction, bytes: number): Promise<void> {
    if (this.mayPass(direction)) this.account(direction, bytes);
    else await this.group.enqueue(this, direction, bytes);
  }

  /** Lets go what waits; nothing waits until the matching `resume`. */
  release(): void {
    this.bypass += 1;
    for (const direction of ['read', 'write'] as const) {
      for (const { bytes, go } of this.queues[direction].splice(0)) {
        this.account(direction, bytes);
        go();
      }
    }
    this.group.pump();
  }

  resume(): void {
    this.bypass -= 1;
  }

  leave(): void {
    this.release();
    this.group.members.delete(this);
  }
}

/** Milliseconds; a timer of more would not wait at all. */
const TIMER_MAX = 2 ** 31 - 1;

export class ThrottleGroup implements GraphObject {
  readonly type = TYPE;
  readonly id: string;
  readonly members = new Set<ThrottleMember>();
  /** Set while requests wait: takes back the next look at them. */
  private cancel: (() => void) | undefined = undefined;
  /** Those who are behind have been given the time to ask for more. */
  private hasYielded = false;
  private hasTotal = false;
  private buckets: Readonly<Record<BucketName, LeakyBucket>>;
  private current: ThrottleLimits;

  constructor(id: string, limits: ThrottleLimits) {
    this.id = id;
    this.current = limits;
    this.buckets = makeBuckets(limits);
    this.hasTotal = hasTotal(limits);
  }

  get limits(): ThrottleLimits {
    return this.current;
  }

  join(user: string): ThrottleMember {
    const member = new ThrottleMember(this, user);
    member.served = this.leastServed();
    this.members.add(member);
    return member;
  }

  /** New limits for everybody at once; what was used under the old ones is forgotten. */
  configure(limits: ThrottleLimits): void {
    this.current = limits;
    this.buckets = makeBuckets(limits);
    this.hasTotal = hasTotal(limits);
    this.pump();
  }

  /** Not past those who wait, unless what they wait for is no concern of this request. */
  mayPass(direction: Direction): boolean {
    if (this.cancel !== undefined && (this.hasTotal || this.isWaitedFor(direction))) return false;
    return this.wait(direction) === 0;
  }

  account(member: ThrottleMember, direction: Direction, bytes: number): void {
    const { iopsSize } = this.current;
    const operations = iopsSize > 0 && bytes > iopsSize ? bytes / iopsSize : 1;
    const now = performance.now();
    let cost = 0;
    for (const name of DIRECTIONS[direction]) {
      const bucket = this.buckets[name];
      const { average } = bucket.rate;
      if (average === 0) continue;
      const units = name.startsWith('bps') ? bytes : operations;
      bucket.pour(units, now);
      cost = Math.max(cost, units / average);
    }
    member.served += cost;
    member.lastPassed = now;
  }

  async enqueue(member: ThrottleMember, direction: Direction, bytes: number): Promise<void> {
    if (isIdle(member)) member.served = Math.max(member.served, this.leastServed() - CREDIT);
    const passed = new Promise<void>((go) => {
      member.queues[direction].push({ bytes, go });
    });
    this.pump();
    return passed;
  }

  user(): string | undefined {
    const [member] = this.members;
    return member?.user;
  }

  properties(): Readonly<Record<string, unknown>> {
    const values = limitValues(this.current);
    const flat = Object.entries(values).map(([name, value]) => [`x-${name}`, value] as const);
    return { limits: values, ...Object.fromEntries(flat) };
  }

  /** `limits` with some of them (the others stay), or one by `x-` and its name. */
  setProperty(name: string, value: unknown): void {
    const given = name === 'limits' ? value : { [name.replace(/^x-/, '')]: value };
    const known = name === 'limits' || (name.startsWith('x-') && Object.hasOwn(LIMIT_ENTRIES, name.slice(2)));
    if (!known) {
      throw new BlockError('EINVAL', `Cannot set "${name}" of throttle group "${this.id}": no such property`);
    }
    const changed = parsed(given, this.id);
    this.configure(throttleLimits({ ...limitValues(this.current), ...changed }, this.id));
  }

  private wait(direction: Direction): number {
    const now = performance.now();
    let wait = 0;
    for (const name of DIRECTIONS[direction]) wait = Math.max(wait, this.buckets[name].wait(now));
    return wait;
  }

  private isWaitedFor(direction: Direction): boolean {
    for (const { queues } of this.members) if (queues[direction].length > 0) return true;
    return false;
  }

  /** Lets pass what may, and comes back when the next may. */
  pump(): void {
    this.cancel?.();
    this.cancel = undefined;
    let outcome = this.passOne();
    while (outcome === 'passed') outcome = this.passOne();
    if (outcome === 'yield') {
      const immediate = setImmediate(() => this.pump());
      this.cancel = () => clearImmediate(immediate);
    } else if (Number.isFinite(outcome)) {
      const timer = setTimeout(() => this.pump(), Math.min(Math.ceil(outcome), TIMER_MAX));
      this.cancel = () => clearTimeout(timer);
    }
  }

  /** The milliseconds until a request may pass when none may now; without end when none waits. */
  private passOne(): 'passed' | 'yield' | number {
    const waits = { read: this.wait('read'), write: this.wait('write') };
    let best: { readonly member: ThrottleMember; readonly direction: Direction } | undefined;
    let soonest = Infinity;
    for (const member of this.members) {
      for (const direction of ['read', 'write'] as const) {
        if (member.queues[direction].length === 0) continue;
        soonest = Math.min(soonest, waits[direction]);
        if (waits[direction] > 0 || (best !== undefined && best.member.served <= member.served)) continue;
        best = { member, direction };
      }
    }
    if (best !== undefined && !this.hasYielded && this.isAhead(best.member)) {
      this.hasYielded = true;
      return 'yield';
    }
    const request = best?.member.queues[best.direction].shift();
    if (best === undefined || request === undefined) return soonest;
    this.hasYielded = false;
    this.account(best.member, best.direction, request.bytes);
    request.go();
    return 'passed';
  }

  /** Whether somebody has had less and is about to ask for more: its last request passed just now. */
  private isAhead(member: ThrottleMember): boolean {
    const now = performance.now();
    for (const other of this.members) {
      const isNear = isIdle(other) && now - other.lastPassed < MOMENT;
      if (isNear && other.served < member.served) return true;
    }
    return false;
  }

  /** The least that anybody has had who has something waiting; the most of all when nobody has. */
  private leastServed(): number {
    const active = [...this.members].filter((member) => !isIdle(member));
    if (active.length > 0) return Math.min(...active.map(({ served }) => served));
    return Math.max(0, ...[...this.members].map(({ served }) => served));
  }
}

function hasTotal({ rates }: ThrottleLimits): boolean {
  return rates['bps-total'].average > 0 || rates['iops-total'].average > 0;
}

function isIdle({ queues }: ThrottleMember): boolean {
  return queues.read.length === 0 && queues.write.length === 0;
}

function makeBuckets({ rates }: ThrottleLimits): Readonly<Record<BucketName, LeakyBucket>> {
  const now = performance.now();
  const made = {} as Record<BucketName, LeakyBucket>;
  for (const name of BUCKETS) made[name] = new LeakyBucket(rates[name], now);
  return made;
}

function parsed(values: unknown, id: string): Record<string, unknown> {
  const result = v.safeParse(v.strictObject(LIMIT_ENTRIES), values);
  if (result.success)
    return Object.fromEntries(Object.entries(result.output).filter(([, value]) => value !== undefined));
  const [issue] = result.issues;
  const where = v.getDotPath(issue) ?? 'limits';
  throw new BlockError('EINVAL', `Cannot set limits of throttle group "${id}": ${where}: ${issue.message}`);
}

/** The object type; `limits.NAME` and `x-NAME` mean the same. */
export const throttleGroupType: ObjectType = {
  name: TYPE,
  summary: 'Limits of bytes and operations per second that throttle nodes share',
  options: GROUP_ENTRIES,
  create(id, options) {
    const values: Record<string, unknown> = {};
    for (const name of Object.keys(LIMIT_ENTRIES)) {
      values[name] = options[`limits.${name}`] ?? options[`x-${name}`];
    }
    return new ThrottleGroup(id, throttleLimits(values, id));
  },
};
