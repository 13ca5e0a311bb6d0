/** The limits of a throttle group, by QEMU's names. */
import { BlockError } from './errors.ts';
import { integer, optional, size } from './schema.ts';
import type { OptionEntries } from './schema.ts';
import type { BucketRate } from '../util/leaky-bucket.ts';

export const BUCKETS = [
  'bps-total',
  'bps-read',
  'bps-write',
  'iops-total',
  'iops-read',
  'iops-write',
] as const;
export type BucketName = (typeof BUCKETS)[number];

export interface ThrottleLimits {
  readonly rates: Readonly<Record<BucketName, BucketRate>>;
  /** Bytes that count as one operation; longer requests count as several. 0: every request is one. */
  readonly iopsSize: number;
}

const WORDS: Readonly<Record<string, string>> = {
  total: 'reads and writes together',
  read: 'reads',
  write: 'writes',
};
const LONGEST_BURST = 1_000_000_000;

/** Every limit by its plain name: `bps-total`, `bps-total-max`, `bps-total-max-length`, ..., `iops-size`. */
export const LIMIT_ENTRIES = limitEntries();

/** The same as options of the object: `limits.bps-total` and `x-bps-total`, as QEMU takes them. */
export const GROUP_ENTRIES: OptionEntries = Object.fromEntries(
  Object.entries(LIMIT_ENTRIES).flatMap(([name, schema]) => [
    [`limits.${name}`, schema],
    [`x-${name}`, schema],
  ]),
);

/** Limits from values by plain name. Throws when they contradict one another. */
export function throttleLimits(values: Readonly<Record<string, unknown>>, id: string): ThrottleLimits {
  const number = (name: string, fallback: number): number => {
    const value = values[name];
    return typeof value === 'number' ? value : fallback;
  };
  const rate = (name: BucketName): BucketRate => ({
    average: number(name, 0),
    max: number(`${name}-max`, 0),
    length: number(`${name}-max-length`, 1),
  });
  const [bps, bpsRead, bpsWrite, iops, iopsRead, iopsWrite] = BUCKETS;
  const rates: ThrottleLimits['rates'] = {
    [bps]: rate(bps),
    [bpsRead]: rate(bpsRead),
    [bpsWrite]: rate(bpsWrite),
    [iops]: rate(iops),
    [iopsRead]: rate(iopsRead),
    [iopsWrite]: rate(iopsWrite),
  };
  const limits = { rates, iopsSize: number('iops-size', 0) };
  refuseContradiction(limits, id);
  return limits;
}

/** The limits by plain name, as `qom-get` and `object-add` have them. */
export function limitValues({ rates, iopsSize }: ThrottleLimits): Record<string, number> {
  const values: Record<string, number> = {};
  for (const name of BUCKETS) {
    values[name] = rates[name].average;
    values[`${name}-max`] = rates[name].max;
    values[`${name}-max-length`] = rates[name].length;
  }
  values['iops-size'] = iopsSize;
  return values;
}

function refuseContradiction({ rates, iopsSize }: ThrottleLimits, id: string): void {
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot set limits of throttle group "${id}": ${why}`);
  };
  for (const kind of ['bps', 'iops'] as const) {
    const isSet = (suffix: 'total' | 'read' | 'write'): boolean => rates[`${kind}-${suffix}`].average > 0;
    if (isSet('total') && (isSet('read') || isSet('write')))
      refuse(`${kind}-total can't be used together with ${kind}-read or ${kind}-write`);
  }
  for (const name of BUCKETS) {
    const { average, max, length } = rates[name];
    if (max > 0 && average === 0) refuse(`${name}-max is ${max}, it needs ${name}`);
    if (max > 0 && max < average)
      refuse(`${name}-max is ${max}, must be at least ${name}, which is ${average}`);
    if (length > 1 && max === 0) refuse(`${name}-max-length is ${length}, it needs ${name}-max`);
  }
  const hasIops = BUCKETS.some((name) => name.startsWith('iops') && rates[name].average > 0);
  if (iopsSize > 0 && !hasIops) refuse(`iops-size is ${iopsSize}, it needs a limit of operations`);
}

function limitEntries(): OptionEntries {
  const entries: Record<string, OptionEntries[string]> = {};
  for (const name of BUCKETS) {
    const [kind, which = ''] = name.split('-');
    const [unit, rate] = kind === 'bps' ? ['Bytes', size] : ['Operations', integer];
    entries[name] = optional(rate(`${unit} per second, ${WORDS[which]}`));
    entries[`${name}-max`] = optional(rate(`${unit} per second during a burst, ${WORDS[which]}`));
    const text = `Seconds that such a burst may take, ${WORDS[which]}`;
    entries[`${name}-max-length`] = optional(integer(text, 1, LONGEST_BURST));
  }
  entries['iops-size'] = optional(size('Bytes that count as one operation'));
  return entries;
}
