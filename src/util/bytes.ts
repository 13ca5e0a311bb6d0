/** 64-bit fields as numbers: no offset or size that we accept reaches 2^53. */

const WORD = 2 ** 32;
/** The high word from which a field no longer fits a safe integer. */
const HIGH_LIMIT = 2 ** 21;

/** The big-endian field; NaN when it does not fit a safe integer, so that every range check refuses it. */
export function readU64BE(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32BE(at);
  return high >= HIGH_LIMIT ? Number.NaN : high * WORD + bytes.readUInt32BE(at + 4);
}

/** The little-endian field; NaN when it does not fit a safe integer, so that every range check refuses it. */
export function readU64LE(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + 4);
  return high >= HIGH_LIMIT ? Number.NaN : high * WORD + bytes.readUInt32LE(at);
}

export function writeU64BE(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / WORD), at);
  bytes.writeUInt32BE(value % WORD, at + 4);
}

export function writeU64LE(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % WORD, at);
  bytes.writeUInt32LE(Math.floor(value / WORD), at + 4);
}

/** A field for a message, whole even when it is too large for a number. */
export function showU64(bytes: Buffer, at: number, littleEndian: boolean): string {
  return (littleEndian ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at)).toString();
}
