/** The folder `<node>.bitmaps`: what each dirty bitmap of a mounted disk says, as a JSON file of its own. */
import { createHash } from 'node:crypto';
import type { BlockFile } from '../../../mount/block-file.ts';
import { timeNow } from '../../../mount/inode.ts';
import type { InodeOptions } from '../../../mount/inode.ts';
import { Directory, TextFile } from '../../../mount/tree.ts';
import type { DirectoryItem, DirectorySource } from '../../../mount/tree.ts';
import type { Child } from '../../block/child.ts';
import type { DirtyBitmap } from '../../block/dirty-bitmap.ts';
import { nodesWithBitmaps } from '../../block/dirty-extents.ts';
import { BlockError } from '../../block/errors.ts';
import { bitmapText, tryTextLength } from './bitmap-text.ts';
import { safeNames } from './safe-names.ts';

export interface DiskWithBitmaps {
  /** Its node is the disk's, whichever that is by now. */
  readonly child: Child;
  /** Of the disk, as its file has it. */
  readonly name: string;
  readonly file: BlockFile;
}

interface Shown {
  readonly bitmap: DirtyBitmap;
  readonly node: string;
}

/** Shown in the folder above while there is a bitmap. A bitmap stays the same file as long as it exists. */
export class BitmapFolder implements DirectorySource {
  private readonly disk: DiskWithBitmaps;
  private readonly folder: Directory;
  private readonly files = new WeakMap<DirtyBitmap, BitmapFile>();

  constructor(disk: DiskWithBitmaps) {
    this.disk = disk;
    this.folder = new Directory(
      { fleeting: true },
      {
        lookup: async (name) => this.items().find((item) => item.name === name)?.inode,
        list: async () => this.items(),
      },
    );
  }

  /** For the folder above. */
  async lookup(name: string): Promise<Directory | undefined> {
    return name === this.name && this.bitmaps().length > 0 ? this.folder : undefined;
  }

  async list(): Promise<readonly DirectoryItem[]> {
    return this.bitmaps().length > 0 ? [{ name: this.name, inode: this.folder }] : [];
  }

  private get name(): string {
    return `${this.disk.name}.bitmaps`;
  }

  private bitmaps(): Shown[] {
    return [...nodesWithBitmaps(this.disk.child.node)].flatMap((node) =>
      [...(node.watch?.bitmaps.values() ?? [])].map((bitmap) => ({ bitmap, node: node.name })),
    );
  }

  private items(): DirectoryItem[] {
    const shown = this.bitmaps();
    const names = safeNames(shown.map(({ bitmap: { name }, node }) => ({ id: node, name })));
    return shown.map(({ bitmap, node }, index) => ({
      name: `${names[index] ?? bitmap.name}.json`,
      inode: this.fileOf({ bitmap, node }, names[index] ?? bitmap.name),
    }));
  }

  private fileOf({ bitmap, node }: Shown, name: string): BitmapFile {
    const known = this.files.get(bitmap);
    if (known !== undefined) return known;
    const { identity } = this.disk.file;
    const file = new BitmapFile(bitmap, {
      ...identity,
      mode: (identity.mode ?? 0) & 0o444,
      ino: inodeNumber(this.name, name),
      properties: { node, bitmap: bitmap.name },
    });
    this.files.set(bitmap, file);
    return file;
  }
}

/** Bitmaps that are looked through for a stat: who only archives the file has to know its size. */
const MEASURED_BYTES_MAX = 4 * 2 ** 20;

/** Each open file shows what the bitmap said then. Its time changes when the bitmap does. */
class BitmapFile extends TextFile {
  private readonly bitmap: DirtyBitmap;
  private revision: number;

  constructor(bitmap: DirtyBitmap, options: InodeOptions) {
    super(() => contentOf(bitmap), options);
    this.bitmap = bitmap;
    this.revision = bitmap.revision;
    this.measure();
  }

  override attributes(): ReturnType<TextFile['attributes']> {
    if (this.revision !== this.bitmap.revision) {
      this.revision = this.bitmap.revision;
      this.mtime = timeNow();
      this.ctime = this.mtime;
      this.measure();
    }
    return super.attributes();
  }

  /** Where that takes long the size stays that of the last text. */
  private measure(): void {
    const { bitmap } = this;
    if (bitmap.inconsistent || bitmap.content.byteLength > MEASURED_BYTES_MAX) return;
    this.size = tryTextLength(bitmap) ?? this.size;
  }
}

/** Nobody may take an inconsistent bitmap for one that says that nothing was written. */
async function contentOf(bitmap: DirtyBitmap): Promise<string> {
  if (!bitmap.inconsistent) return bitmapText(bitmap.frozen());
  const what = 'it is inconsistent: the image was not closed properly while it was in use';
  throw new BlockError('EIO', `Cannot read bitmap "${bitmap.name}": ${what}`);
}

/** The same in each mount of the image under that name. */
function inodeNumber(folder: string, name: string): number {
  const hash = createHash('sha256').update(`${folder}/${name}`).digest();
  return 2 ** 48 + hash.readUIntBE(0, 6);
}
