/** CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), eight bytes a step over eight tables. */
const POLYNOMIAL = 0x82f63b78;
const TABLES = makeTables();

/** The checksum of bytes[start, end), continued from `crc` (0 at the start). */
export function crc32c(bytes: Buffer, crc = 0, start = 0, end = bytes.length): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  let state = ~crc;
  let at = start;
  for (; at + 8 <= end; at += 8) {
    const low = bytes.readInt32LE(at) ^ state;
    const high = bytes.readInt32LE(at + 4);
    state =
      pick(t7, low) ^
      pick(t6, low >>> 8) ^
      pick(t5, low >>> 16) ^
      pick(t4, low >>> 24) ^
      pick(t3, high) ^
      pick(t2, high >>> 8) ^
      pick(t1, high >>> 16) ^
      pick(t0, high >>> 24);
  }
  for (; at < end; at += 1) state = (state >>> 8) ^ pick(t0, state ^ (bytes[at] ?? 0));
  return ~state >>> 0;
}

type Table = Int32Array;
type Tables = [Table, Table, Table, Table, Table, Table, Table, Table];

function pick(table: Table, byte: number): number {
  return table[byte & 0xff] ?? 0;
}

function makeTables(): Tables {
  const make = (): Table => new Int32Array(256);
  const tables: Tables = [make(), make(), make(), make(), make(), make(), make(), make()];
  const [first] = tables;
  for (let byte = 0; byte < 256; byte += 1) {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
    first[byte] = value;
  }
  for (let index = 1; index < 8; index += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      const before = tables[index - 1]?.[byte] ?? 0;
      (tables[index] ?? first)[byte] = (before >>> 8) ^ pick(first, before);
    }
  }
  return tables;
}
