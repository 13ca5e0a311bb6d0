/**
 * The rules of blkdebug as a state machine without I/O. A request fires the events of its kind one after the other; each
 * makes the rules apply that wait for it in the present state, then the state changes that it brings take place. Rules for the
 * event `none` always apply. What applies fails the request if kind and sector fit.
 */
import type { BlkdebugEvent, IoType } from './events.ts';
import { FIRED } from './events.ts';

const SECTOR = 512;

export interface InjectRule {
  readonly event: BlkdebugEvent;
  /** Requests of this kind only; without it of any but block-status. */
  readonly iotype?: IoType | undefined;
  /** In this state only; 0: in any. */
  readonly state: number;
  readonly errno: number;
  /** Requests that touch this sector only; -1: any. */
  readonly sector: number;
  /** Used up by the first request that it fails. */
  readonly once: boolean;
  /** The request fails in the same turn. */
  readonly immediately: boolean;
}

export interface StateRule {
  readonly event: BlkdebugEvent;
  /** In this state only; 0: in any. */
  readonly state: number;
  readonly newState: number;
}

export interface RuleSet {
  readonly inject: readonly InjectRule[];
  readonly setState: readonly StateRule[];
}

export class RuleMachine {
  state = 1;
  private readonly inject: Set<InjectRule>;
  private readonly setState: readonly StateRule[];

  constructor(rules: RuleSet) {
    this.inject = new Set(rules.inject);
    this.setState = rules.setState;
  }

  /** Whether nothing can happen at requests of this kind. */
  isQuiet(type: IoType): boolean {
    return this.inject.size === 0 && !this.setState.some(({ event }) => FIRED[type].includes(event));
  }

  /** A request happens; the rule that fails it, if one does. */
  request(type: IoType, offset: number, length: number): InjectRule | undefined {
    const applying = this.applying(type);
    const hit = applying.find((rule) => fits(rule, type, offset, length));
    if (hit?.once === true) this.inject.delete(hit);
    return hit;
  }

  private applying(type: IoType): InjectRule[] {
    const applying = [...this.inject].filter((rule) => rule.event === 'none' && this.isNow(rule));
    for (const fired of FIRED[type]) {
      for (const rule of this.inject) if (rule.event === fired && this.isNow(rule)) applying.push(rule);
      const change = this.setState.findLast((rule) => rule.event === fired && this.isNow(rule));
      if (change !== undefined) this.state = change.newState;
    }
    return applying;
  }

  private isNow({ state }: { readonly state: number }): boolean {
    return state === 0 || state === this.state;
  }
}

function fits(rule: InjectRule, type: IoType, offset: number, length: number): boolean {
  if (rule.iotype === undefined ? type === 'block-status' : rule.iotype !== type) return false;
  if (rule.sector < 0) return true;
  const byte = rule.sector * SECTOR;
  return type !== 'flush' && offset < byte + SECTOR && byte < offset + length;
}
