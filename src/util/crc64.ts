/** CRC-64 as .xz has it (ECMA-182, lowest bit first), in two halves of 32 bits. */
const POLYNOMIAL = 0xc96c5795d7870f42n;

const HIGH = new Uint32Array(256);
const LOW = new Uint32Array(256);
for (let index = 0; index < 256; index += 1) {
  let crc = BigInt(index);
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ POLYNOMIAL : crc >> 1n;
  HIGH[index] = Number(crc >> 32n);
  LOW[index] = Number(crc & 0xffffffffn);
}

export class Crc64 {
  private high = 0xffffffff;
  private low = 0xffffffff;

  update(bytes: Buffer): this {
    let { high, low } = this;
    for (let at = 0; at < bytes.length; at += 1) {
      const index = (low ^ (bytes[at] ?? 0)) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ (LOW[index] ?? 0);
      high = (high >>> 8) ^ (HIGH[index] ?? 0);
    }
    this.high = high >>> 0;
    this.low = low >>> 0;
    return this;
  }

  /** Whether the sum of all bytes so far stands at `at`, little-endian. */
  equals(bytes: Buffer, at: number): boolean {
    return ~this.low >>> 0 === bytes.readUInt32LE(at) && ~this.high >>> 0 === bytes.readUInt32LE(at + 4);
  }
}
