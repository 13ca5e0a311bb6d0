/** Descriptors that are text, damaged: refused or served, and nothing outside the image's folder is touched. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { seed } from '../helpers/random.ts';
import type { Random } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { buildParts, Type } from './dmg-images.ts';
import { MIB, rawFile, survivesMutations } from './small-image.ts';
import { damagedText } from './text-damage.ts';
import { descriptor, writeDescriptor } from './vmdk-fixtures.ts';

interface Subject {
  readonly driver: string;
  readonly writable: boolean;
  make(folder: string, graph: Graph): Promise<string>;
  /** Damages the text inside; left out where the file is the text. */
  damage?(good: Buffer, random: Random): Buffer;
}

const VMDK: Subject = {
  driver: 'vmdk',
  writable: true,
  async make(folder, graph) {
    await rawFile(folder, 'a.bin', Buffer.alloc(MIB, 3));
    await rawFile(folder, 'b.bin', Buffer.alloc(MIB, 3));
    await createImage(graph, { filename: join(folder, 's.vmdk'), format: 'vmdk', size: MIB, options: {} });
    await createImage(graph, {
      filename: join(folder, 'base.vmdk'),
      format: 'vmdk',
      size: 4 * MIB,
      options: {},
    });
    const lines = [
      'RW 1024 FLAT "a.bin" 0',
      'RW 512 ZERO',
      'RW 2048 SPARSE "s.vmdk"',
      'RDONLY 1024 FLAT "b.bin" 1',
      'RW 1024 FLAT "a.bin" 1024',
    ];
    return writeDescriptor(folder, 'a.vmdk', descriptor('custom', lines));
  },
};

const HDD: Subject = {
  driver: 'parallels-hdd',
  writable: true,
  async make(folder, graph) {
    await createImage(graph, {
      filename: join(folder, 'DiskDescriptor.xml'),
      format: 'parallels-hdd',
      size: 4 * MIB,
      options: {},
    });
    return join(folder, 'DiskDescriptor.xml');
  },
};

const PLIST: Subject = {
  driver: 'dmg',
  writable: false,
  make: (folder) => rawFile(folder, 'a.dmg', dmg()),
  damage(good, random) {
    const koly = Buffer.from(good.subarray(-512));
    const at = Number(koly.readBigUInt64BE(216));
    const list = damagedText(good.subarray(at, good.length - 512), random);
    koly.writeBigUInt64BE(BigInt(list.length), 224);
    return Buffer.concat([good.subarray(0, at), list, koly]);
  },
};

function dmg(): Buffer {
  const plain = Buffer.alloc(256 * 1024, 'content ');
  const piece = { type: Type.zlib, sectors: plain.length / 512, packed: deflateSync(plain), plain };
  return buildParts([[piece], [piece, piece]]);
}

async function survives(t: ExecutionContext, subject: Subject): Promise<void> {
  const parent = await tempDir(t);
  const folder = join(parent, 'image');
  await mkdir(folder);
  const outside = await rawFile(parent, 'outside.bin', Buffer.alloc(4 * MIB, 9));
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  await survivesMutations(t, graph, {
    driver: subject.driver,
    seed: seed(81),
    path: await subject.make(folder, graph),
    tables: [],
    writable: subject.writable,
    damage: (good, random) => subject.damage?.(good, random) ?? damagedText(good, random),
  });
  t.true((await readFile(outside)).equals(Buffer.alloc(4 * MIB, 9)), 'nothing outside is written');
}

for (const subject of [VMDK, HDD, PLIST])
  test.serial(`${subject.driver}: a damaged text is refused or served`, survives, subject);
