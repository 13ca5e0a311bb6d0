import { BlockError } from '../../../src/block/errors.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { Options } from './options.ts';

/** The limits that the options ask for. Throws when they are no multiples of the alignment. */
export function blkdebugLimits(options: Options, node: string): Partial<Limits> {
  const refuse = (name: string, value: number, wanted: string): never => {
    throw new BlockError('EINVAL', `Cannot open node "${node}": ${name} is ${value}, must be ${wanted}`);
  };
  const { align } = options;
  if (align !== undefined && (align < 1 || align > 2 ** 30 || !Number.isInteger(Math.log2(align))))
    refuse('align', align, 'a power of two up to 1 GiB');
  const unit = align ?? 1;
  const multiple = (name: keyof Options, of: number): number | undefined => {
    const value = options[name];
    if (typeof value !== 'number') return undefined;
    if (value === 0 || value % of !== 0) refuse(name, value, `a multiple of ${of}`);
    return value;
  };
  const zero = multiple('opt-write-zero', unit);
  const discard = multiple('opt-discard', unit);
  const limits = {
    requestAlignment: align,
    maxTransfer: multiple('max-transfer', unit),
    zeroesAlignment: zero ?? align,
    maxZeroes: multiple('max-write-zero', zero ?? unit),
    discardAlignment: discard ?? align,
    maxDiscard: multiple('max-discard', discard ?? unit),
  };
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
