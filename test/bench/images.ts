import { randomBytes } from 'node:crypto';
import { copyFile, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withNewKey } from '../helpers/qemu-key.ts';
import { Random } from '../helpers/random.ts';
import { tool } from '../helpers/tools.ts';
import { output } from './process.ts';

/** Full images of other formats than qcow2. */
export const OTHER_FORMATS = ['vmdk', 'vdi', 'vpc', 'vhdx'] as const;
type OtherFormat = (typeof OTHER_FORMATS)[number];
/** Ways in which qcow2 compresses clusters. */
export const COMPRESSED = ['zlib', 'zstd'] as const;
type Compressed = (typeof COMPRESSED)[number];
export type ImageKind = 'full' | 'empty' | 'chain' | Compressed | 'encrypted' | 'raw' | OtherFormat;

/** Of encrypted images. */
const PASSPHRASE = 'bench';
/** How QEMU's programs are given it, under the id `key`. */
export const SECRET = ['--object', `secret,id=key,data=${PASSPHRASE}`];

export function formatOf(kind: ImageKind): string {
  const own: readonly string[] = ['raw', ...OTHER_FORMATS];
  return own.includes(kind) ? kind : 'qcow2';
}

function isCompressed(kind: ImageKind): boolean {
  return COMPRESSED.some((one) => one === kind);
}

const MiB = 1024 * 1024;
const CLUSTER = 65_536;

/** Makes the images of the rows, each once; two of each, so that the two servers never share a lock or a cache line. */
export class Images {
  readonly size: number;
  private readonly folder: string;
  private readonly made = new Map<string, Promise<string>>();
  private softMade: Promise<string> | undefined = undefined;

  constructor(folder: string, size: number) {
    this.folder = folder;
    this.size = size;
  }

  /** Bytes of the disk inside. */
  sizeOf(kind: ImageKind): number {
    return isCompressed(kind) ? Math.min(this.size, 256 * MiB) : this.size;
  }

  get(kind: ImageKind, who: 'a' | 'b'): Promise<string> {
    const key = `${kind}-${who}`;
    let image = this.made.get(key);
    if (image === undefined) {
      image = this.make(kind, who);
      this.made.set(key, image);
    }
    return image;
  }

  /** The file with the passphrase of an encrypted image; undefined for others. */
  async keyFile(kind: ImageKind): Promise<string | undefined> {
    if (kind !== 'encrypted') return undefined;
    const path = join(this.folder, 'key');
    await writeFile(path, PASSPHRASE);
    return path;
  }

  /** A new empty image; the caller removes it. */
  async fresh(who: 'a' | 'b'): Promise<string> {
    const path = join(this.folder, `empty-${who}.qcow2`);
    await rm(path, { force: true });
    await output(tool('qemu-img'), ['create', '-q', '-f', 'qcow2', path, String(this.size)]);
    return path;
  }

  private async make(kind: ImageKind, who: 'a' | 'b'): Promise<string> {
    switch (kind) {
      case 'raw':
        return this.random(who);
      case 'full':
        return this.convert(await this.get('raw', 'a'), `full-${who}.qcow2`, []);
      case 'zlib':
      case 'zstd': {
        const args = ['-c', '-o', `compression_type=${kind}`];
        return this.convert(await this.soft(), `${kind}-${who}.qcow2`, args);
      }
      case 'encrypted':
        return this.encrypted(await this.get('raw', 'a'), `encrypted-${who}.qcow2`);
      case 'chain':
        return this.chain(who);
      case 'empty':
        return this.fresh(who);
      case 'vmdk':
      case 'vdi':
      case 'vpc':
      case 'vhdx':
        return this.other(await this.get('raw', 'a'), kind, who);
    }
  }

  private async random(who: 'a' | 'b'): Promise<string> {
    const path = join(this.folder, `raw-${who}.raw`);
    if (who === 'b') {
      await copyFile(await this.get('raw', 'a'), path);
      return path;
    }
    await writeBlocks(path, this.size, (length) => randomBytes(length));
    return path;
  }

  private soft(): Promise<string> {
    this.softMade ??= this.makeSoft();
    return this.softMade;
  }

  private async makeSoft(): Promise<string> {
    const path = join(this.folder, 'soft.raw');
    const random = new Random(1);
    await writeBlocks(path, this.sizeOf('zlib'), (length) => random.softBytes(length));
    return path;
  }

  private async convert(from: string, name: string, args: readonly string[]): Promise<string> {
    const path = join(this.folder, name);
    await output(tool('qemu-img'), ['convert', '-q', '-f', 'raw', '-O', 'qcow2', '-W', ...args, from, path]);
    return path;
  }

  private async encrypted(from: string, name: string): Promise<string> {
    const luks = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10';
    await withNewKey(() => this.convert(from, name, [...SECRET, '-o', luks]));
    return join(this.folder, name);
  }

  private async other(from: string, format: OtherFormat, who: 'a' | 'b'): Promise<string> {
    const path = join(this.folder, `other-${who}.${format}`);
    const exact = format === 'vpc' ? ['-o', 'force_size=on'] : [];
    await output(tool('qemu-img'), ['convert', '-q', '-f', 'raw', '-O', format, '-W', ...exact, from, path]);
    return path;
  }

  /** Five layers; every fifth cluster is found in each. */
  private async chain(who: 'a' | 'b'): Promise<string> {
    let below = await this.convert(await this.get('raw', 'a'), `chain-${who}-0.qcow2`, []);
    for (let layer = 1; layer < 5; layer += 1) {
      const path = join(this.folder, `chain-${who}-${layer}.qcow2`);
      await output(tool('qemu-img'), ['create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', path]);
      const commands: string[] = [];
      for (let at = layer * CLUSTER; at < this.size; at += 5 * CLUSTER)
        commands.push(`write -q -P ${layer} ${at} ${CLUSTER}`);
      await output(tool('qemu-io'), ['-f', 'qcow2', path], `${commands.join('\n')}\n`);
      below = path;
    }
    return below;
  }
}

async function writeBlocks(path: string, size: number, block: (length: number) => Buffer): Promise<void> {
  const handle = await open(path, 'w');
  try {
    for (let at = 0; at < size; at += 8 * MiB) await handle.write(block(Math.min(8 * MiB, size - at)));
    await handle.sync();
  } finally {
    await handle.close();
  }
}
