/** Zstandard frames (RFC 8878, sections 3.1.1 and 3.1.2): only as much as it takes to find where one ends. */

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;

/** Bytes of the frame that begins at `at`; 0 when it is none or does not end within `bytes`. */
export function zstdFrameLength(bytes: Buffer, at = 0): number {
  if (at + 8 > bytes.length) return 0;
  const magic = bytes.readUInt32LE(at);
  if ((magic & ~15) === SKIPPABLE_MAGIC) return ifInside(bytes, at, 8 + bytes.readUInt32LE(at + 4));
  if (magic !== FRAME_MAGIC) return 0;
  const descriptor = bytes[at + 4] ?? 0;
  const singleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 && singleSegment ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
  const header = 5 + (singleSegment ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + sizeBytes;
  const blocks = blocksLength(bytes, at + header);
  const checksum = (descriptor & 4) === 0 ? 0 : 4;
  return blocks === 0 ? 0 : ifInside(bytes, at, header + blocks + checksum);
}

function blocksLength(bytes: Buffer, start: number): number {
  for (let at = start; at + 3 <= bytes.length;) {
    const header = bytes.readUIntLE(at, 3);
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) return 0;
    at += 3 + (type === RLE_BLOCK ? 1 : header >> 3);
    if ((header & 1) === 1) return at - start;
  }
  return 0;
}

function ifInside(bytes: Buffer, at: number, length: number): number {
  return at + length <= bytes.length ? length : 0;
}
