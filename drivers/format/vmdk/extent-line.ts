import { refuseImage } from '../../../src/block/refuse.ts';
import { MAX_SECTORS } from './layout.ts';

/**
 * One line of a descriptor: `RW 4192256 SPARSE "disk-s001.vmdk"`, `RW 1048576 FLAT "disk-flat.vmdk" 0`, `RW 63 ZERO`.
 * What may follow the offset (partition UUID, device identifier) is of no use here.
 */
export interface ExtentLine {
  readonly access: 'RW' | 'RDONLY' | 'NOACCESS';
  readonly sectors: number;
  readonly type: ExtentType;
  /** Undefined for ZERO. */
  readonly filename: string | undefined;
  /** Sector of the file at which the extent's data starts; flat types only. */
  readonly offset: number;
}

export const EXTENT_TYPES = [
  'FLAT',
  'SPARSE',
  'ZERO',
  'VMFS',
  'VMFSSPARSE',
  'VMFSTHIN',
  'VMFSRDM',
  'VMFSRAW',
  'SESPARSE',
] as const;
export type ExtentType = (typeof EXTENT_TYPES)[number];

interface LinePlace {
  readonly number: number;
  readonly subject: string;
  readonly decode: (latin1: string) => string;
}

/** A word and a number: whatever the word, the line must not be passed over, or what follows it would move on the disk. */
export const isExtentLine = (line: string): boolean =>
  /^(?:(?:RW|RDONLY|NOACCESS)[ \t]|\w+[ \t]+[-+]?\d)/i.test(line);

export function extentLine(line: string, place: LinePlace): ExtentLine {
  const refuse = (wanted: string): never =>
    refuseImage(place.subject, `line ${place.number} of the descriptor is "${shown(line)}"`, wanted);
  const [head, name, tail] = cutName(line);
  const [word = '', count = '', kind = '', ...rest] = head.trim().split(/[ \t]+/, 5);
  const [access, type] = [word.toUpperCase(), kind.toUpperCase()];
  if (access !== 'RW' && access !== 'RDONLY' && access !== 'NOACCESS') {
    return refuse('the access must be RW, RDONLY or NOACCESS');
  }
  const sectors = wholeNumber(count);
  if (sectors === undefined) return refuse(`the size must be a whole number of sectors up to ${MAX_SECTORS}`);
  if (!isExtentType(type)) return refuse(`the type must be one of ${EXTENT_TYPES.join(', ')}`);
  if (rest.length > 0) return refuse('the file name must be in quotes');
  if (type !== 'ZERO' && (name === undefined || name === ''))
    return refuse('a file name in quotes is wanted');
  const [start = '0'] = tail.trim().split(/[ \t]+/, 1);
  const offset = wholeNumber(start === '' ? '0' : start);
  if (offset === undefined)
    return refuse(`the offset must be a whole number of sectors up to ${MAX_SECTORS}`);
  const filename = name === undefined || type === 'ZERO' ? undefined : place.decode(name);
  return { access, sectors, type, filename, offset };
}

/** What stands before, between and behind the quotes. */
function cutName(line: string): [head: string, name: string | undefined, tail: string] {
  const open = line.indexOf('"');
  if (open < 0) return [line, undefined, ''];
  const close = line.indexOf('"', open + 1);
  if (close < 0) return [line.slice(0, open), undefined, ''];
  return [line.slice(0, open), line.slice(open + 1, close), line.slice(close + 1)];
}

function wholeNumber(text: string): number | undefined {
  if (!/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= MAX_SECTORS ? value : undefined;
}

function isExtentType(text: string): text is ExtentType {
  return (EXTENT_TYPES as readonly string[]).includes(text);
}

const shown = (line: string): string => (line.length > 80 ? `${line.slice(0, 80)}...` : line);
