import debug from 'debug';
import type { Child } from '../../../src/block/child.ts';
import type { DataCodec } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { unpackHere } from '../../../src/util/unpack-service.ts';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import { Autoclear, AUTOCLEAR_KEPT, Compatible, Incompatible } from './features.ts';
import type { BitmapList } from './bitmap/list.ts';
import type { ExtensionArea } from './extension-area.ts';
import type { Geometry } from './geometry.ts';
import type { HeaderBlock } from './header-block.ts';
import { ExtensionType } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import type { Header } from './header.ts';
import { Need } from './need.ts';

const log = debug('blockfuse:qcow2');

export interface ImageParts {
  readonly subject: string;
  readonly file: Child;
  /** The external data file. */
  readonly dataFile: Child | undefined;
  readonly header: HeaderBlock;
  readonly extensions: Pick<ExtensionArea, 'list'>;
  readonly bitmaps?: BitmapList | undefined;
  readonly geometry: Geometry;
  readonly writable: boolean;
  /** What guest data goes through on its way to and from its place: encryption. */
  readonly codec?: DataCodec | undefined;
  readonly hasBacking: () => boolean;
  /** What unpacks compressed clusters; on this thread when left out. */
  readonly unpacker?: UnpackService;
  /** Told once, when damage is found. */
  readonly onCorrupt?: ((what: string) => void) | undefined;
}

/** What all parts of one open qcow2 image share. */
export class Image {
  readonly subject: string;
  readonly file: Child;
  /** Where guest clusters are: the external data file, or the image itself. */
  readonly data: Child;
  readonly external: boolean;
  readonly header: HeaderBlock;
  readonly geometry: Geometry;
  readonly writable: boolean;
  readonly codec: DataCodec | undefined;
  readonly unpacker: UnpackService;
  readonly need = new Need();
  /** Whether anything lies below: an unallocated cluster is then not the same as zeroes. */
  readonly hasBacking: () => boolean;
  /** Bytes of the disk. */
  size: number;
  /** Bits of the header that promise what writing breaks are cleared. Nothing may be written unless this is set. */
  prepared: boolean;
  private readonly area: Pick<ExtensionArea, 'list'>;
  private readonly bitmaps: BitmapList | undefined;
  private damage: BlockError | undefined = undefined;
  private onCorrupt: ImageParts['onCorrupt'];
  private preparing: Promise<void> | undefined = undefined;

  constructor(parts: ImageParts) {
    this.subject = parts.subject;
    this.file = parts.file;
    this.external = parts.dataFile !== undefined;
    this.data = parts.dataFile ?? parts.file;
    this.header = parts.header;
    this.area = parts.extensions;
    this.bitmaps = parts.bitmaps;
    this.geometry = parts.geometry;
    this.writable = parts.writable;
    this.codec = parts.codec;
    this.unpacker = parts.unpacker ?? unpackHere;
    this.hasBacking = parts.hasBacking;
    this.onCorrupt = parts.onCorrupt;
    this.size = parts.header.fields.size;
    this.prepared = this.keepsPromises;
  }

  get extensions(): readonly HeaderExtension[] {
    return this.area.list;
  }

  get lazyRefcounts(): boolean {
    return (this.header.fields.compatible_features & Compatible.lazyRefcounts) !== 0n;
  }

  get rawData(): boolean {
    return (this.header.fields.autoclear_features & Autoclear.rawDataFile) !== 0n;
  }

  get broken(): boolean {
    return this.damage !== undefined;
  }

  /** To be called by each decision that changes metadata: true, or false with the need noted. Throws on a damaged image. */
  tryPrepare(): boolean {
    if (this.damage !== undefined) throw this.damage;
    return this.prepared || this.need.want(() => this.prepare());
  }

  /**
   * Damage found in use: throws EIO. A writable image gets the corrupt bit and refuses every later change of metadata.
   * @param what the field, its value, and what was wanted
   */
  corrupt(what: string): never {
    throw this.noteDamage(what);
  }

  /** The same for damage that does not stand in the way of what is being done. */
  noteDamage(what: string): BlockError {
    const error = new BlockError('EIO', `Cannot use image "${this.subject}": it is corrupt: ${what}`);
    log('%s', error.message);
    this.onCorrupt?.(what);
    this.onCorrupt = undefined;
    if (this.writable && this.damage === undefined) {
      this.refuseWrites(error);
      this.markCorrupt();
    }
    return error;
  }

  /** Throws when damage was found: what is in memory must not reach the disk any more. */
  requireSound(): void {
    if (this.damage !== undefined) throw this.damage;
  }

  /**
   * After a failure that leaves disk and memory in an unknown relation: no more changes, nor writes in place. A cluster that
   * is unshared in memory may have another user on disk.
   */
  refuseWrites(error: BlockError): void {
    this.damage ??= error;
    this.prepared = false;
  }

  /** All refcounts are on disk. The next change sets the bit again where refcounts are lazy. */
  async clearDirtyBit(): Promise<void> {
    const { incompatible_features: bits } = this.header.fields;
    if ((bits & Incompatible.dirty) === 0n || this.broken) return;
    if (this.lazyRefcounts) this.prepared = false;
    await this.header.update({ incompatible_features: bits & ~Incompatible.dirty });
  }

  /** What is on disk promises again what the next write breaks. Nothing is under way. */
  promisedAgain(): void {
    this.prepared = !this.broken && this.keepsPromises;
  }

  /** For changes of the tables that leave the disk's content as it is. */
  async prepareTables(): Promise<void> {
    this.requireSound();
    const changes = this.brokenPromises;
    if (changes !== undefined) await this.header.update(changes);
  }

  private markCorrupt(): void {
    const { fields } = this.header;
    if (fields.version < 3) return;
    const bits = fields.incompatible_features | Incompatible.corrupt;
    this.header.update({ incompatible_features: bits }).catch((error: unknown) => {
      log('corrupt bit of %s could not be set: %o', this.subject, error);
    });
  }

  private prepare(): Promise<void> {
    this.preparing ??= this.clearPromises().finally(() => {
      this.preparing = undefined;
    });
    return this.preparing;
  }

  private async clearPromises(): Promise<void> {
    await this.prepareTables();
    await this.bitmaps?.markNoting(this.file);
    this.prepared = !this.broken;
  }

  /** A write breaks nothing that the disk says; where refcounts are lazy that is looked at before the first. */
  private get keepsPromises(): boolean {
    if (this.lazyRefcounts || this.bitmaps?.isUnmarked === true) return false;
    return this.brokenPromises === undefined;
  }

  /** How the header has to be changed before anything else is; undefined: it may stay. */
  private get brokenPromises(): Partial<Header> | undefined {
    const { autoclear_features: promised, incompatible_features: bits } = this.header.fields;
    const kept = promised & (this.hasBitmaps ? AUTOCLEAR_KEPT : AUTOCLEAR_KEPT & ~Autoclear.bitmaps);
    const next = this.lazyRefcounts ? bits | Incompatible.dirty : bits;
    if (kept === promised && next === bits) return undefined;
    return { autoclear_features: kept, incompatible_features: next };
  }

  private get hasBitmaps(): boolean {
    return this.extensions.some(({ type }) => type === ExtensionType.bitmaps);
  }
}
