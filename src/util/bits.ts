/** Bit arrays in bytes. `msbFirst` says which bit of a byte comes first: VHD 7 (true), VHDX 0 (false). */

export function bitAt(bytes: Buffer, index: number, msbFirst: boolean): boolean {
  const bit = msbFirst ? 7 - (index % 8) : index % 8;
  return ((bytes[Math.floor(index / 8)] ?? 0) & (1 << bit)) !== 0;
}

/** The first bit of [from, to) that is not as bit `from` is; `to` when all are alike. */
export function bitRunEnd(bytes: Buffer, from: number, to: number, msbFirst: boolean): number {
  const value = bitAt(bytes, from, msbFirst);
  const whole = value ? 0xff : 0;
  let at = from + 1;
  while (at < to) {
    if (at % 8 === 0 && at + 8 <= to && bytes[at / 8] === whole) at += 8;
    else if (bitAt(bytes, at, msbFirst) === value) at += 1;
    else break;
  }
  return Math.min(at, to);
}

export function setBits(bytes: Buffer, from: number, to: number, msbFirst: boolean): void {
  let at = from;
  while (at < to) {
    const byte = Math.floor(at / 8);
    if (at % 8 === 0 && at + 8 <= to) {
      const bytesEnd = Math.floor(to / 8);
      bytes.fill(0xff, byte, bytesEnd);
      at = bytesEnd * 8;
      continue;
    }
    const bit = msbFirst ? 7 - (at % 8) : at % 8;
    bytes[byte] = (bytes[byte] ?? 0) | (1 << bit);
    at += 1;
  }
}
