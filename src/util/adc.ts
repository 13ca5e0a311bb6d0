import { LzOutput } from './lz-output.ts';

/**
 * Apple Data Compression. The first byte of an element says what follows:
 *
 *     1lllllll                       l + 1 bytes as they are
 *     01llllll dddddddd dddddddd     l + 4 bytes from d + 1 bytes ago
 *     00lllldd dddddddd              l + 3 bytes from d + 1 bytes ago
 */
export function unpackAdc(packed: Buffer, size: number): Buffer {
  const out = new LzOutput(size);
  for (let at = 0; at < packed.length && out.at < size;) {
    const first = packed[at] ?? 0;
    if (first >= 0x80) {
      const length = (first & 0x7f) + 1;
      out.literal(packed, at + 1, length);
      at += 1 + length;
    } else if (first >= 0x40) {
      if (at + 3 > packed.length) throw new RangeError('the input ends too early');
      out.match(packed.readUInt16BE(at + 1) + 1, (first & 0x3f) + 4);
      at += 3;
    } else {
      if (at + 2 > packed.length) throw new RangeError('the input ends too early');
      out.match((packed.readUInt16BE(at) & 0x3ff) + 1, (first >> 2) + 3);
      at += 2;
    }
  }
  return out.finish();
}
