/**
 * Names on FAT: 11 upper-case bytes (8.3), and where that is not the whole name the long one in UTF-16, up to 255 units, in
 * slots of 13 before it. Microsoft's FAT specification, "FAT Directory Structure" and "FAT Long Directory Entries".
 */
export interface DirectoryName {
  /** 11 bytes, padded with spaces. */
  readonly short: string;
  /** Left out where the short name says it all. */
  readonly long: string | undefined;
  /** Slots in the directory, the short entry included. */
  readonly slots: number;
}

const LONG_SLOT = 13;
const LONGEST = 255;
/** What no long name may hold, and what a short one may hold beside letters and digits. */
const FORBIDDEN = new RegExp(String.raw`["*/:<>?\\|\u0000-\u001f\u007f]`, 'g');
const SHORT_EXTRA = "$%'-_@~`!(){}^#&";

/** Names for the files of one folder, in their order: allowed on FAT and different whatever the case of letters. */
export function directoryNames(names: readonly string[]): DirectoryName[] {
  const longs = new Set<string>();
  const shorts = new Set<string>();
  const all = names.map((name) => unique(allowed(name), longs));
  return all.map((long) => {
    const short = shortName(long, shorts, longs);
    const whole = shownShort(short) === long;
    const slots = whole ? 1 : 1 + Math.ceil(long.length / LONG_SLOT);
    return { short, long: whole ? undefined : long, slots };
  });
}

/** The sum of a short name by which its long entries know that it is theirs. */
export function shortNameSum(short: string): number {
  let sum = 0;
  for (const byte of Buffer.from(short, 'latin1'))
    sum = ((sum % 2 === 1 ? 128 : 0) + Math.floor(sum / 2) + byte) % 256;
  return sum;
}

/** The slots of a long name, last part first, as they stand before the short entry. */
export function longSlots(long: string, sum: number): Buffer[] {
  const count = Math.ceil(long.length / LONG_SLOT);
  const slots: Buffer[] = [];
  for (let index = count - 1; index >= 0; index -= 1) {
    const slot = Buffer.alloc(32, 0xff);
    slot.writeUInt8(index + 1 + (index === count - 1 ? 0x40 : 0), 0);
    slot.writeUInt8(0x0f, 11);
    slot.writeUInt8(0, 12);
    slot.writeUInt8(sum, 13);
    slot.writeUInt16LE(0, 26);
    for (let part = 0; part < LONG_SLOT; part += 1) {
      const at = index * LONG_SLOT + part;
      if (at <= long.length) slot.writeUInt16LE(at < long.length ? long.charCodeAt(at) : 0, unitAt(part));
    }
    slots.push(slot);
  }
  return slots;
}

/** Five units, six, and two, around the fields of the short entry that this one must look like. */
function unitAt(part: number): number {
  if (part < 5) return 1 + part * 2;
  return part < 11 ? 14 + (part - 5) * 2 : 28 + (part - 11) * 2;
}

function allowed(name: string): string {
  const clean = name.replaceAll(FORBIDDEN, '_').replace(/[. ]+$/, (end) => '_'.repeat(end.length));
  return clean.slice(0, LONGEST);
}

function unique(name: string, taken: Set<string>): string {
  let candidate = name;
  const dot = name.lastIndexOf('.');
  const [stem, extension] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
  for (let number = 2; taken.has(candidate.toUpperCase()); number += 1) {
    const tail = ` (${number})${extension}`;
    candidate = `${stem.slice(0, LONGEST - tail.length)}${tail}`;
  }
  taken.add(candidate.toUpperCase());
  return candidate;
}

/** The name itself where it is one, else made of what can be kept of it and a number. */
function shortName(long: string, taken: Set<string>, longs: ReadonlySet<string>): string {
  const bare = long.toUpperCase().replace(/^\.+/, '');
  const dot = bare.lastIndexOf('.');
  const stem = shortPart(dot < 0 ? bare : bare.slice(0, dot));
  const extension = shortPart(dot < 0 ? '' : bare.slice(dot + 1)).slice(0, 3);
  const direct = pad(stem, extension);
  if (stem !== '' && stem.length <= 8 && shownShort(direct) === long.toUpperCase() && !taken.has(direct)) {
    taken.add(direct);
    return direct;
  }
  for (let number = 1; ; number += 1) {
    const tail = `~${number}`;
    const numbered = pad(`${(stem === '' ? '_' : stem).slice(0, 8 - tail.length)}${tail}`, extension);
    if (taken.has(numbered) || longs.has(shownShort(numbered))) continue;
    taken.add(numbered);
    return numbered;
  }
}

function shortPart(part: string): string {
  let kept = '';
  for (const letter of part) {
    if (letter === ' ' || letter === '.') continue;
    kept += /^[A-Z0-9]$/.test(letter) || SHORT_EXTRA.includes(letter) ? letter : '_';
  }
  return kept;
}

const pad = (stem: string, extension: string): string => stem.slice(0, 8).padEnd(8) + extension.padEnd(3);

function shownShort(short: string): string {
  const extension = short.slice(8).trimEnd();
  return `${short.slice(0, 8).trimEnd()}${extension === '' ? '' : `.${extension}`}`;
}
