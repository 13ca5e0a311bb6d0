import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { buildDmg, Type } from '../format/dmg-images.ts';
import { runBytes } from '../helpers/run-bytes.ts';
import type { Subject } from './subject.ts';

const SECTOR = 512;
const CHUNK = 256 * 1024;
type Packer = (plain: Buffer) => Promise<Buffer> | Buffer;

/** Chunks of one kind; those that are all zeroes are stored as zero, the last one as it is where it is not whole. */
function dmg(name: string, type: number, tools: readonly string[], pack: Packer): Subject {
  return {
    name: `dmg ${name}`,
    driver: 'dmg',
    tools,
    can: { write: false },
    async make(folder, content) {
      const pieces = [];
      for (let at = 0; at < content.length; at += CHUNK) {
        const plain = content.subarray(at, at + CHUNK);
        const sectors = plain.length / SECTOR;
        const isZero = plain.every((byte) => byte === 0);
        pieces.push(
          isZero
            ? { type: Type.zero, sectors, packed: Buffer.alloc(0), plain }
            : { type, sectors, packed: await pack(plain), plain },
        );
      }
      const path = join(folder, 'disk.dmg');
      await writeFile(path, buildDmg(pieces));
      return { path, options: { driver: 'dmg', file: { driver: 'file', filename: path } } };
    },
  };
}

/** LZFSE has no packer here: see test/format/dmg.test.ts. */
export const DMG: readonly Subject[] = [
  dmg('raw', Type.raw, [], (plain) => plain),
  dmg('zlib', Type.zlib, [], (plain) => deflateSync(plain)),
  dmg('bzip2', Type.bzip2, ['bzip2'], (plain) => runBytes('bzip2', ['-c'], plain)),
  dmg('lzma', Type.lzma, ['xz'], (plain) => runBytes('xz', ['-c', '--check=crc32'], plain)),
];
