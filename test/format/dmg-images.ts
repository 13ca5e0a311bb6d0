/** Apple disk images as their layout is known. */
import { crc32 } from 'node:zlib';

export const Type = {
  zero: 0,
  raw: 1,
  ignore: 2,
  adc: 0x80000004,
  zlib: 0x80000005,
  bzip2: 0x80000006,
  lzfse: 0x80000007,
  lzma: 0x80000008,
};

export interface Piece {
  readonly type: number;
  readonly sectors: number;
  readonly packed: Buffer;
  /** What it unpacks to: with it the table gets a checksum. */
  readonly plain?: Buffer;
}

/** A UDIF file as its layout is known: chunks, property list or resource fork, trailer. */
export const buildDmg = (pieces: readonly Piece[], asFork = false): Buffer => buildParts([pieces], asFork);

/** One of several partitions, each with a table of its own that counts from its first sector and first byte. */
export function buildParts(parts: readonly (readonly Piece[])[], asFork = false): Buffer {
  const tables: Buffer[] = [];
  const stored: Buffer[] = [];
  let sector = 0;
  let offset = 0;
  for (const pieces of parts) {
    const table = tableOf(pieces, sector, offset);
    tables.push(table);
    sector += Number(table.readBigUInt64BE(16));
    for (const { packed } of pieces) {
      stored.push(packed);
      offset += packed.length;
    }
  }
  const data = Buffer.concat(stored);
  const described = asFork ? fork(tables) : Buffer.from(xml(tables));
  const koly = Buffer.alloc(512);
  koly.write('koly');
  koly.writeUInt32BE(4, 4);
  koly.writeUInt32BE(512, 8);
  koly.writeBigUInt64BE(BigInt(data.length), 32);
  koly.writeUInt32BE(1, 60);
  putCrc(koly, 80, crc32(data));
  koly.writeBigUInt64BE(BigInt(data.length), asFork ? 40 : 216);
  koly.writeBigUInt64BE(BigInt(described.length), asFork ? 48 : 224);
  const hasSums = tables.every((table) => table.readUInt32BE(64) === 2);
  if (hasSums) putCrc(koly, 352, crc32(Buffer.concat(tables.map((table) => table.subarray(72, 76)))));
  koly.writeBigUInt64BE(BigInt(sector), 492);
  return Buffer.concat([data, described, koly]);
}

function tableOf(pieces: readonly Piece[], firstSector: number, firstByte: number): Buffer {
  const table = Buffer.alloc(204 + (pieces.length + 1) * 40);
  table.write('mish');
  table.writeUInt32BE(1, 4);
  table.writeBigUInt64BE(BigInt(firstSector), 8);
  table.writeBigUInt64BE(BigInt(firstByte), 24);
  table.writeUInt32BE(pieces.length + 1, 200);
  let sector = 0;
  let offset = 0;
  for (const [index, { type, sectors, packed }] of pieces.entries()) {
    const at = 204 + index * 40;
    table.writeUInt32BE(type, at);
    table.writeBigUInt64BE(BigInt(sector), at + 8);
    table.writeBigUInt64BE(BigInt(sectors), at + 16);
    table.writeBigUInt64BE(BigInt(offset), at + 24);
    table.writeBigUInt64BE(BigInt(packed.length), at + 32);
    sector += sectors;
    offset += packed.length;
  }
  const end = 204 + pieces.length * 40;
  table.writeUInt32BE(0xffffffff, end);
  table.writeBigUInt64BE(BigInt(sector), end + 8);
  table.writeBigUInt64BE(BigInt(offset), end + 24);
  table.writeBigUInt64BE(BigInt(sector), 16);
  const covered = pieces.filter(({ type }) => type !== Type.ignore);
  const plain = covered.flatMap((piece) => piece.plain ?? []);
  if (plain.length === covered.length) putCrc(table, 64, crc32(Buffer.concat(plain)));
  return table;
}

function putCrc(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32BE(2, at);
  bytes.writeUInt32BE(32, at + 4);
  bytes.writeUInt32BE(value, at + 8);
}

const xml = (tables: readonly Buffer[]): string => `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array>${tables
  .map(
    (table, id) => `<dict>
<key>Attributes</key><string>0x0050</string><key>Data</key><data>
${table.toString('base64').replace(/(.{52})/g, '$1\n\t')}
</data><key>ID</key><string>${id}</string></dict>`,
  )
  .join('')}</array><key>plst</key><array/></dict></dict></plist>\n`;

function fork(tables: readonly Buffer[]): Buffer {
  const rows = tables.map((table) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(table.length);
    return Buffer.concat([length, table]);
  });
  const data = Buffer.concat(rows);
  const head = Buffer.alloc(256);
  head.writeUInt32BE(256, 0);
  head.writeUInt32BE(data.length, 8);
  return Buffer.concat([head, data]);
}
