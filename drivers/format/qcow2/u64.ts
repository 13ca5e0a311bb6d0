/** Big-endian 64-bit fields as numbers: every offset of a qcow2 file that we accept is below 2^53. */

const WORD = 2 ** 32;

/** The field's value; NaN when it does not fit a safe integer, so that every range check refuses it. */
export function readU64(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32BE(at);
  return high > 0x1fffff ? Number.NaN : high * WORD + bytes.readUInt32BE(at + 4);
}

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / WORD), at);
  bytes.writeUInt32BE(value % WORD, at + 4);
}

/** A field for a message when it may be too large for a number. */
export function showU64(bytes: Buffer, at: number): string {
  return bytes.readBigUInt64BE(at).toString();
}
