import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { sample } from '../helpers/samples.ts';
import type { Region } from './mutate.ts';

/** A kind of image to damage. Add one to FORMATS; nothing else is needed. */
export interface FuzzFormat {
  readonly name: string;
  readonly driver: string;
  readonly tools: readonly string[];
  /** Makes a sound, small image; undefined, with the test skipped loudly, where that can't be done. */
  make(folder: string, t: ExecutionContext): Promise<Buffer | undefined>;
  /** Where its header and tables are. */
  regions(image: Buffer): readonly Region[];
}

/** An image that qemu-img makes; some of its disk holds data, some nothing. */
export function qemuFormat(kind: {
  name: string;
  format: string;
  driver?: string;
  create?: string;
  args?: readonly string[];
  /** Run on the image afterwards: qemu-img arguments, the image where IMAGE stands or at the end. */
  after?: readonly (readonly string[])[];
  regions: (image: Buffer) => readonly Region[];
}): FuzzFormat {
  const { name, format, driver = format, create, args = [], after = [] } = kind;
  return {
    name,
    driver,
    tools: ['qemu-img'],
    regions: kind.regions,
    async make(folder) {
      const flat = join(folder, 'flat.raw');
      const image = join(folder, `sound.${format}`);
      const random = new Random(3);
      const parts = [
        random.softBytes(200_000),
        Buffer.alloc(300_000),
        random.bytes(100_000),
        Buffer.alloc(448_576),
      ];
      await writeFile(flat, Buffer.concat(parts));
      const shape = create === undefined ? [] : ['-o', create];
      await run('qemu-img', ['convert', '-q', '-f', 'raw', '-O', format, ...args, ...shape, flat, image]);
      for (const command of after) {
        const words = command.includes('IMAGE') ? command : [...command, 'IMAGE'];
        await run(
          'qemu-img',
          words.map((word) => (word === 'IMAGE' ? image : word)),
        );
      }
      return readFile(image);
    },
  };
}

/** An image from the samples, for formats that qemu-img does not write. */
function sampleFormat(kind: {
  driver: string;
  file: string;
  regions: (image: Buffer) => readonly Region[];
}): FuzzFormat {
  return {
    name: kind.driver,
    driver: kind.driver,
    tools: [],
    regions: kind.regions,
    make: (_folder, t) => Promise.resolve(sample(t, kind.file)),
  };
}

/** A header at the start, tables up to `tables` bytes, and what formats keep at the very end. */
function headRegions(header: number, tables: number, unit = 4): (image: Buffer) => Region[] {
  return (image) => [
    { name: 'header', offset: 0, length: header, weight: 6, unit },
    { name: 'tables', offset: header, length: Math.min(tables, image.length) - header, weight: 4, unit },
    {
      name: 'tail',
      offset: Math.max(0, image.length - 1024),
      length: Math.min(1024, image.length),
      weight: 2,
      unit,
    },
    { name: 'anywhere', offset: 0, length: image.length },
  ];
}

/** Header, L1 table, the first L2 table, refcount table and its first block, snapshot table: all as the header has them. */
function qcow2Regions(image: Buffer): Region[] {
  const cluster = 2 ** image.readUInt32BE(20);
  const place = (at: number): number => Number(image.readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);
  const l1 = place(40);
  const refcounts = place(48);
  const regions: Region[] = [
    { name: 'header', offset: 0, length: 112, weight: 8, unit: 4 },
    { name: 'extensions', offset: 104, length: 400, weight: 2 },
    { name: 'L1', offset: l1, length: image.readUInt32BE(36) * 8, weight: 3 },
    { name: 'L2', offset: place(l1), length: Math.min(cluster, 256), weight: 6 },
    { name: 'refcount table', offset: refcounts, length: 64, weight: 3 },
    { name: 'refcounts', offset: place(refcounts), length: Math.min(cluster, 128), weight: 3, unit: 2 },
    { name: 'anywhere', offset: 0, length: image.length },
  ];
  const snapshots = place(64);
  if (image.readUInt32BE(60) > 0)
    regions.push({ name: 'snapshots', offset: snapshots, length: 128, weight: 4, unit: 4 });
  return regions;
}

/** The bitmaps extension, the directory and the first table. */
function bitmapRegions(image: Buffer): Region[] {
  const at = image.indexOf(Buffer.from('2385287500000018', 'hex'));
  const directory = Number(image.readBigUInt64BE(at + 24));
  return [
    { name: 'bitmaps extension', offset: at, length: 32, weight: 8, unit: 4 },
    { name: 'bitmap directory', offset: directory, length: 64, weight: 8, unit: 2 },
    { name: 'bitmap table', offset: Number(image.readBigUInt64BE(directory)), length: 8, weight: 4 },
    { name: 'header', offset: 0, length: 112, weight: 1, unit: 4 },
  ];
}

export const FORMATS: readonly FuzzFormat[] = [
  qemuFormat({ name: 'qcow2', format: 'qcow2', regions: qcow2Regions }),
  qemuFormat({ name: 'qcow2 version 2', format: 'qcow2', create: 'compat=0.10', regions: qcow2Regions }),
  qemuFormat({
    name: 'qcow2 with 512 byte clusters',
    format: 'qcow2',
    create: 'cluster_size=512,refcount_bits=1',
    regions: qcow2Regions,
  }),
  qemuFormat({ name: 'qcow2 compressed', format: 'qcow2', args: ['-c'], regions: qcow2Regions }),
  qemuFormat({
    name: 'qcow2 compressed with zstd',
    format: 'qcow2',
    args: ['-c'],
    create: 'compression_type=zstd',
    regions: qcow2Regions,
  }),
  qemuFormat({
    name: 'qcow2 with extended L2',
    format: 'qcow2',
    create: 'extended_l2=on',
    regions: qcow2Regions,
  }),
  qemuFormat({
    name: 'qcow2 with a snapshot',
    format: 'qcow2',
    after: [['snapshot', '-c', 'one']],
    regions: qcow2Regions,
  }),
  qemuFormat({
    name: 'qcow2 with bitmaps',
    format: 'qcow2',
    create: 'cluster_size=4k',
    after: [
      ['bitmap', '--add', '-g', '512', 'IMAGE', 'one'],
      ['bitmap', '--add', '--disable', 'IMAGE', 'two'],
    ],
    regions: bitmapRegions,
  }),
  qemuFormat({ name: 'vmdk', format: 'vmdk', regions: headRegions(1536, 128 * 1024) }),
  qemuFormat({
    name: 'vmdk streamOptimized',
    format: 'vmdk',
    create: 'subformat=streamOptimized',
    regions: headRegions(1536, 128 * 1024),
  }),
  qemuFormat({ name: 'vdi', format: 'vdi', regions: headRegions(512, 1024) }),
  qemuFormat({ name: 'vpc', format: 'vpc', create: 'force_size=on', regions: headRegions(1536, 2048) }),
  qemuFormat({
    name: 'vpc fixed',
    format: 'vpc',
    create: 'subformat=fixed,force_size=on',
    regions: headRegions(512, 1024),
  }),
  qemuFormat({ name: 'vhdx', format: 'vhdx', regions: vhdxRegions }),
  qemuFormat({ name: 'qcow', format: 'qcow', regions: headRegions(64, 8192) }),
  qemuFormat({ name: 'qed', format: 'qed', regions: headRegions(128, 1024 * 1024) }),
  qemuFormat({ name: 'parallels', format: 'parallels', regions: headRegions(64, 1024) }),
  sampleFormat({ driver: 'bochs', file: 'bximage-growing.bochs', regions: headRegions(512, 4096) }),
  sampleFormat({ driver: 'cloop', file: 'create_compressed_fs.cloop', regions: headRegions(136, 8192) }),
  sampleFormat({ driver: 'dmg', file: 'udif-compression-zlib.dmg', regions: dmgRegions }),
];

/** Identifier, both headers, both region tables, log, metadata table, block allocation table. */
function vhdxRegions(): Region[] {
  return [
    { name: 'identifier', offset: 0, length: 8 },
    { name: 'header 1', offset: 64 * 1024, length: 80, weight: 2 },
    { name: 'header 2', offset: 128 * 1024, length: 80, weight: 2 },
    { name: 'region table', offset: 192 * 1024, length: 128, weight: 3 },
    { name: 'region table 2', offset: 256 * 1024, length: 128, weight: 2 },
    { name: 'log', offset: 1024 * 1024, length: 8192, weight: 2 },
    { name: 'block allocation table', offset: 3 * 1024 * 1024, length: 256, weight: 3 },
    { name: 'metadata', offset: 2 * 1024 * 1024, length: 65_536 + 256, weight: 3 },
  ];
}

/** The trailer, and the property list that it points to. */
function dmgRegions(image: Buffer): Region[] {
  const trailer = image.length - 512;
  const list = {
    name: 'property list',
    offset: Number(image.readBigUInt64BE(trailer + 0xd8)),
    length: Number(image.readBigUInt64BE(trailer + 0xe0)),
  };
  return [
    { name: 'trailer', offset: trailer, length: 512, weight: 5 },
    { ...list, weight: 5, unit: 1 },
    { name: 'anywhere', offset: 0, length: image.length },
  ];
}
