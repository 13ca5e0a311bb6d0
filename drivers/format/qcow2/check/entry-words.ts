/** The first 64 bits of an L1 or L2 entry, as two words. */
export interface EntryWords {
  readonly high: number;
  readonly low: number;
}

export function encodeWords({ high, low }: EntryWords): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(high, 0);
  bytes.writeUInt32BE(low, 4);
  return bytes;
}

/** For messages. */
export function showWords({ high, low }: EntryWords): string {
  return `0x${(BigInt(high) * 2n ** 32n + BigInt(low)).toString(16)}`;
}
