/** Apple disk images as their layout is known. */
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
}

/** A UDIF file as its layout is known: chunks, property list or resource fork, trailer. */
export function buildDmg(pieces: readonly Piece[], asFork = false): Buffer {
  const table = Buffer.alloc(204 + (pieces.length + 1) * 40);
  table.write('mish');
  table.writeUInt32BE(1, 4);
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
  const data = Buffer.concat(pieces.map(({ packed }) => packed));
  const tables = asFork ? fork(table) : Buffer.from(xml(table));
  const koly = Buffer.alloc(512);
  koly.write('koly');
  koly.writeUInt32BE(4, 4);
  koly.writeUInt32BE(512, 8);
  koly.writeBigUInt64BE(BigInt(data.length), 32);
  koly.writeUInt32BE(1, 60);
  koly.writeBigUInt64BE(BigInt(data.length), asFork ? 40 : 216);
  koly.writeBigUInt64BE(BigInt(tables.length), asFork ? 48 : 224);
  koly.writeBigUInt64BE(BigInt(sector), 492);
  return Buffer.concat([data, tables, koly]);
}

const xml = (table: Buffer): string => `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array><dict>
<key>Attributes</key><string>0x0050</string><key>Data</key><data>
${table.toString('base64').replace(/(.{52})/g, '$1\n\t')}
</data><key>ID</key><string>0</string></dict></array><key>plst</key><array/></dict></dict></plist>\n`;

function fork(table: Buffer): Buffer {
  const head = Buffer.alloc(260);
  head.writeUInt32BE(256, 0);
  head.writeUInt32BE(4 + table.length, 8);
  head.writeUInt32BE(table.length, 256);
  return Buffer.concat([head, table]);
}
