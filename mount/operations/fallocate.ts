import { BlockError } from '../../src/block/errors.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import type { BlockFile } from '../block-file.ts';
import type { RootChild } from '../export.ts';
import type { RequestKind } from '../latency.ts';
import { FallocateMode } from '../protocol/constants.ts';
import { FallocateIn } from '../protocol/layout.ts';
import { defineOperation, NO_BODY } from '../state.ts';

interface Range {
  readonly offset: number;
  readonly length: number;
  readonly mode: number;
}

/**
 * PUNCH_HOLE and ZERO_RANGE leave a range that reads as zeroes; the first gives its space back where the format can. Mode 0 grows
 * a growable disk; it can't reserve space inside one, and says so.
 */
export const fallocate = defineOperation({
  kind: 'later',
  async run(state, request, owner) {
    const file = state.disk(request);
    const range = {
      offset: request.u64(FallocateIn.offset),
      length: request.u64(FallocateIn.length),
      mode: request.u32(FallocateIn.mode),
    };
    check(file, range);
    const kind = kindOf(range);
    await file.export.run(owner, (root) => apply(file, root, range), kind);
    if (kind === 'discard') file.export.counters.discards += 1;
    else if (kind === 'zero') file.export.counters.zeroes += 1;
    file.wrote(range.offset, range.length);
    await file.windows?.forget(file, range.offset, range.length);
    return NO_BODY;
  },
});

/** Undefined: it only grows. */
function kindOf(range: Range): RequestKind | undefined {
  if (has(range, FallocateMode.punchHole)) return 'discard';
  return has(range, FallocateMode.zeroRange) ? 'zero' : undefined;
}

function check(file: BlockFile, range: Range): void {
  const { options, label } = file.export;
  const refuse = (code: 'EROFS' | 'ENOTSUP', why: string): never => {
    throw new BlockError(code, `Cannot allocate in ${label}: ${why}`);
  };
  if (!options.writable) refuse('EROFS', 'it is read-only');
  const known = FallocateMode.keepSize + FallocateMode.punchHole + FallocateMode.zeroRange;
  if ((range.mode & ~known) !== 0)
    refuse('ENOTSUP', `mode is ${range.mode}, it can punch holes, zero and grow`);
  if (has(range, FallocateMode.punchHole) && !options.discard) refuse('ENOTSUP', 'discard is off');
}

async function apply(file: BlockFile, root: RootChild, range: Range): Promise<void> {
  const { offset, length } = range;
  if (has(range, FallocateMode.punchHole)) return zero(root, offset, length, ZeroFlag.mayUnmap);
  if (has(range, FallocateMode.zeroRange)) {
    if (!has(range, FallocateMode.keepSize)) await grow(file, root, offset + length);
    return zero(root, offset, length, ZeroFlag.none);
  }
  if (has(range, FallocateMode.keepSize) || offset + length <= file.export.size) {
    throw new BlockError('ENOTSUP', `Cannot reserve space in ${file.export.label}: only growing is possible`);
  }
  return grow(file, root, offset + length);
}

async function zero(root: RootChild, offset: number, length: number, flags: number): Promise<void> {
  const inside = Math.min(length, root.size - offset);
  if (inside > 0) await root.writeZeroes(offset, inside, flags);
}

async function grow(file: BlockFile, root: RootChild, end: number): Promise<void> {
  if (end <= file.export.size) return;
  if (!file.export.options.growable) {
    throw new BlockError(
      'ENOSPC',
      `Cannot grow ${file.export.label}: it ends at ${file.export.size} and is not growable`,
    );
  }
  await file.export.resize(root, end);
}

const has = (range: Range, mode: number): boolean => (range.mode & mode) !== 0;
