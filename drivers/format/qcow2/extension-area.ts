/**
 * The header extensions in memory and on disk. The one of the bitmaps comes, changes and goes while the image is used, and
 * each step leaves a header that can be read:
 *
 *     header | extension | ... | end                 | backing file name
 *     header | extension | ... | end                 | .............. | name     moved out of the way, if it must be
 *     header | extension | ... | end' data, end      | .............. | name     behind the end: nobody looks
 *     header | extension | ... | bitmaps, data | end | .............. | name     one write within a sector
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { ExtensionType } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import { Autoclear } from './features.ts';
import type { HeaderBlock } from './header-block.ts';
import { encodeExtension } from './new-image.ts';

const SECTOR = 512;
const HEAD = 8;

export class ExtensionArea {
  /** In their order. */
  list: readonly HeaderExtension[];
  private readonly file: Child;
  private readonly header: HeaderBlock;
  private readonly subject: string;

  constructor(parts: {
    file: Child;
    header: HeaderBlock;
    list: readonly HeaderExtension[];
    subject: string;
  }) {
    this.file = parts.file;
    this.header = parts.header;
    this.list = parts.list;
    this.subject = parts.subject;
  }

  /** The bitmaps extension becomes `data`, on disk when this resolves, and the header vouches for it. */
  async setBitmaps(data: Buffer): Promise<void> {
    const index = this.indexOfBitmaps;
    if (index >= 0) await this.update(index, data);
    else if (!(await this.tryAppend(data)))
      await this.rewrite([...this.list, { type: ExtensionType.bitmaps, data }]);
    await this.vouch(true);
  }

  async removeBitmaps(): Promise<void> {
    await this.vouch(false);
    const index = this.indexOfBitmaps;
    if (index < 0) return;
    const rest = this.list.filter((_, other) => other !== index);
    if (index === this.list.length - 1) {
      await this.file.write(Buffer.alloc(HEAD), this.placeOf(index));
      await this.file.flush();
      this.list = rest;
    } else await this.rewrite(rest);
  }

  /** Whether `length` more bytes of extensions fit in the first cluster. */
  hasRoomFor(length: number): boolean {
    const { backing_file_size: name } = this.header.fields;
    return this.placeOf(this.list.length) + length + HEAD + name <= this.clusterSize;
  }

  private get indexOfBitmaps(): number {
    return this.list.findIndex(({ type }) => type === ExtensionType.bitmaps);
  }

  private get clusterSize(): number {
    return 2 ** this.header.fields.cluster_bits;
  }

  /** Byte offset of an extension; of the end mark for the number behind the last. */
  private placeOf(index: number): number {
    return this.list
      .slice(0, index)
      .reduce((at, { data }) => at + HEAD + alignUp(data.length, 8), this.header.length);
  }

  private async vouch(yes: boolean): Promise<void> {
    const { autoclear_features: bits } = this.header.fields;
    const next = yes ? bits | Autoclear.bitmaps : bits & ~Autoclear.bitmaps;
    if (next !== bits) await this.header.update({ autoclear_features: next });
  }

  /** Where the data lies in two sectors the header does not vouch for it meanwhile. */
  private async update(index: number, data: Buffer): Promise<void> {
    const at = this.placeOf(index) + HEAD;
    const isWhole = Math.floor(at / SECTOR) === Math.floor((at + data.length - 1) / SECTOR);
    if (!isWhole) await this.vouch(false);
    await this.file.write(data, at);
    await this.file.flush();
    this.list = this.list.map((old, other) => (other === index ? { ...old, data } : old));
  }

  /** False when it can't be done step by step. */
  private async tryAppend(data: Buffer): Promise<boolean> {
    const added = encodeExtension(ExtensionType.bitmaps, data);
    const at = this.placeOf(this.list.length);
    const end = at + added.length + HEAD;
    const head = Buffer.alloc(this.clusterSize);
    await this.file.read(head, 0);
    if (end > head.length || head.readUInt32BE(at) !== ExtensionType.end) return false;
    if (!(await this.tryMoveName(head, end))) return false;
    await this.file.write(Buffer.concat([added.subarray(HEAD), Buffer.alloc(HEAD)]), at + HEAD);
    await this.file.flush();
    await this.file.write(added.subarray(0, HEAD), at);
    await this.file.flush();
    this.list = [...this.list, { type: ExtensionType.bitmaps, data }];
    return true;
  }

  /** The name of the backing file stands at `end` or behind it afterwards. */
  private async tryMoveName(head: Buffer, end: number): Promise<boolean> {
    const { backing_file_offset: at, backing_file_size: length } = this.header.fields;
    if (at === 0 || at >= end) return true;
    const next = Math.max(end, at + length);
    if (next + length > head.length) return false;
    await this.file.write(Buffer.from(head.subarray(at, at + length)), next);
    await this.file.flush();
    await this.header.update({ backing_file_offset: next });
    return true;
  }

  /** All of the first cluster behind the header in one write. */
  private async rewrite(list: readonly HeaderExtension[]): Promise<void> {
    const { backing_file_offset: oldAt, backing_file_size: length } = this.header.fields;
    const name = Buffer.alloc(oldAt === 0 ? 0 : length);
    if (name.length > 0) await this.file.read(name, oldAt);
    const rest = Buffer.alloc(this.clusterSize - this.header.length);
    const encoded = Buffer.concat([
      ...list.map(({ type, data }) => encodeExtension(type, data)),
      encodeExtension(ExtensionType.end, Buffer.alloc(0)),
    ]);
    if (encoded.length + name.length > rest.length) {
      const what = `extensions and name take ${encoded.length + name.length} bytes, the first cluster has room for ${rest.length}`;
      throw new BlockError('ENOSPC', `Cannot store bitmaps in image "${this.subject}": ${what}`);
    }
    encoded.copy(rest);
    name.copy(rest, encoded.length);
    const at = name.length === 0 ? 0 : this.header.length + encoded.length;
    await this.header.replace({ backing_file_offset: at }, rest);
    this.list = list;
  }
}
