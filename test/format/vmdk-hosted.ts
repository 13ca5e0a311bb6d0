/** Hosted sparse extents of any shape, built from the tables of Virtual Disk Format 5.0. Nothing here uses the driver's code. */
import { deflateSync } from 'node:zlib';
import { Random } from '../helpers/random.ts';

const SECTOR = 512;

export interface HostedShape {
  readonly grainSectors: number;
  readonly tableEntries: number;
  /** A second directory with tables of its own. */
  readonly redundant: boolean;
  /** Grains of zeroes are entered as such. */
  readonly zeroedGrains?: boolean;
  /** Deflated; with a marker of sector and length in front of each. */
  readonly compressed?: boolean;
  /** Sectors between the tables and the first grain. */
  readonly gap?: number;
  readonly descriptor: string;
  /** Sectors that the descriptor may take. */
  readonly room?: number;
}

interface Tables {
  readonly directory: Buffer;
  readonly tables: Buffer;
}

/** Header, descriptor, directories and tables, then the grains of `disk` that are not all zeroes, in a random order. */
export function hosted(disk: Buffer, shape: HostedShape): Buffer {
  const { grainSectors, tableEntries, redundant, room = 20, gap = 0 } = shape;
  const grain = grainSectors * SECTOR;
  const grains = Math.ceil(disk.length / grain);
  const tableCount = Math.ceil(grains / tableEntries);
  const tableSectors = Math.ceil((tableEntries * 4) / SECTOR);
  const directorySectors = Math.ceil((tableCount * 4) / SECTOR);
  const step = directorySectors + tableCount * tableSectors;
  const rgd = redundant ? 1 + room : 0;
  const gd = 1 + room + (redundant ? step : 0);
  let next = gd + step + gap;
  const places = new Map<number, number>();
  const body: Buffer[] = [];
  for (const number of order(grains)) {
    const plain = Buffer.alloc(grain);
    disk.copy(plain, 0, number * grain, (number + 1) * grain);
    if (plain.every((byte) => byte === 0)) {
      if (shape.zeroedGrains === true) places.set(number, 1);
      continue;
    }
    const stored = shape.compressed === true ? packed(plain, number * grainSectors) : plain;
    places.set(number, next);
    body.push(stored);
    next += stored.length / SECTOR;
  }
  const tables = (directoryAt: number): Tables => {
    const directory = Buffer.alloc(directorySectors * SECTOR);
    const bytes = Buffer.alloc(tableCount * tableSectors * SECTOR);
    for (let index = 0; index < tableCount; index += 1)
      directory.writeUInt32LE(directoryAt + directorySectors + index * tableSectors, index * 4);
    for (const [number, place] of places) {
      const table = Math.floor(number / tableEntries);
      bytes.writeUInt32LE(place, table * tableSectors * SECTOR + (number % tableEntries) * 4);
    }
    return { directory, tables: bytes };
  };
  const copies = (redundant ? [rgd, gd] : [gd]).flatMap((at) => Object.values(tables(at)) as Buffer[]);
  const text = Buffer.alloc(room * SECTOR);
  text.write(shape.descriptor);
  const header = hostedHeader(disk.length / SECTOR, shape, { rgd, gd, overHead: gd + step + gap, room });
  return Buffer.concat([header, text, ...copies, Buffer.alloc(gap * SECTOR), ...body]);
}

function hostedHeader(
  capacity: number,
  shape: HostedShape,
  at: { rgd: number; gd: number; overHead: number; room: number },
): Buffer {
  const header = Buffer.alloc(SECTOR);
  const { redundant, zeroedGrains = false, compressed = false } = shape;
  const flags = 1 + (redundant ? 2 : 0) + (zeroedGrains ? 4 : 0) + (compressed ? 0x30000 : 0);
  header.write('KDMV');
  header.writeUInt32LE(compressed ? 3 : zeroedGrains ? 2 : 1, 4);
  header.writeUInt32LE(flags, 8);
  const wide = [capacity, shape.grainSectors, 1, at.room];
  for (const [index, value] of wide.entries()) header.writeBigUInt64LE(BigInt(value), 12 + index * 8);
  header.writeUInt32LE(shape.tableEntries, 44);
  for (const [index, value] of [at.rgd, at.gd, at.overHead].entries())
    header.writeBigUInt64LE(BigInt(value), 48 + index * 8);
  header.write('\n \r\n', 73, 'latin1');
  header.writeUInt16LE(compressed ? 1 : 0, 77);
  return header;
}

function packed(plain: Buffer, sector: number): Buffer {
  const data = deflateSync(plain);
  const bytes = Buffer.alloc(Math.ceil((12 + data.length) / SECTOR) * SECTOR);
  bytes.writeBigUInt64LE(BigInt(sector));
  bytes.writeUInt32LE(data.length, 8);
  data.copy(bytes, 12);
  return bytes;
}

function order(count: number): number[] {
  const random = new Random(count);
  const ranked = Array.from({ length: count }, (_, number) => ({ number, rank: random.next() }));
  return ranked.sort((one, other) => one.rank - other.rank).map(({ number }) => number);
}
