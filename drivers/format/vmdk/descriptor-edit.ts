/**
 * Numbers of a descriptor are changed within one sector, which a power cut leaves as it was or as it is to be: what a
 * longer number takes, or a shorter one leaves, is made up for in the same sector, so that nothing else moves.
 */
import type { DigitSpan } from './descriptor.ts';
import { SECTOR } from './layout.ts';

export interface SectorEdit {
  /** Bytes from the start of the descriptor. */
  readonly at: number;
  /** The sector, or what there is of the last one. */
  readonly bytes: Buffer;
}

/** `key = value`: the blanks before and behind the sign mean nothing. */
const KEY = /^([ \t]*[\w.]+)([ \t]*)(=)([ \t]*)/;

/** Undefined where the digits lie in two sectors, or theirs has not as much that can be left out. */
export function replaceDigits(text: Buffer, span: DigitSpan, digits: string): SectorEdit | undefined {
  const at = span.at - (span.at % SECTOR);
  const end = Math.min(at + SECTOR, text.length);
  if (span.at + span.length > end) return undefined;
  const sector = text.toString('latin1', at, end);
  const before = sector.slice(0, span.at - at);
  const behind = sector.slice(span.at - at + span.length);
  const more = digits.length - span.length;
  const around = more > 0 ? squeezed(before, behind, more) : stretched(before, behind, -more);
  if (around === undefined) return undefined;
  return { at, bytes: Buffer.from(around.before + digits + around.behind, 'latin1') };
}

interface Around {
  readonly before: string;
  readonly behind: string;
}

/** `count` characters less: padding first, then blanks around signs. */
function squeezed(before: string, behind: string, count: number): Around | undefined {
  const padding = /(?:(?<=\n)\n+|\0+)$/.exec(behind)?.[0].length ?? 0;
  const cut = Math.min(count, padding);
  const [last, missing] = withoutBlanks(behind.slice(0, behind.length - cut), count - cut);
  const [first, left] = withoutBlanks(before, missing);
  return left === 0 ? { before: first, behind: last } : undefined;
}

/** `count` characters more: padding, blanks before a sign, or blanks before the number itself. */
function stretched(before: string, behind: string, count: number): Around {
  const padding = /[\n\0]$/.exec(behind)?.[0];
  if (padding !== undefined && count > 0) return { before, behind: behind + padding.repeat(count) };
  return { before: before + ' '.repeat(count), behind };
}

/** Lines that begin in the sector and are `key = value` give up to `count` blanks; returns how many are missing. */
function withoutBlanks(text: string, count: number): [text: string, missing: number] {
  let missing = count;
  const lines = text.split('\n').map((line, index) => {
    if (index === 0 || missing === 0) return line;
    return line.replace(KEY, (_all, key: string, left: string, sign: string, right: string) => {
      const ahead = Math.min(missing, left.length);
      const after = Math.min(missing - ahead, right.length);
      missing -= ahead + after;
      return key + left.slice(ahead) + sign + right.slice(after);
    });
  });
  return [lines.join('\n'), missing];
}
