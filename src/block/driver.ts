/**
 * What a driver is and what it may assume.
 *
 * The node (node.ts) calls drivers with checked arguments only: offset and length are safe integers, inside the
 * node (or within what `resize` allows), not empty, aligned to the driver's limits and no longer than them; the
 * permission was checked; overlapping requests that must not meet do not meet. Drivers are naive, the wrapper strict.
 *
 * `tryX` never waits, has no side effect when it returns false, and is the only place where a decision is made:
 * tables in memory in, decision out. When it returns false the core calls `load()` *in the same turn* and tries again.
 * So nothing can change between reading a table and using it, and every decision is written once.
 */
import type * as v from 'valibot';
import type { AmendRequest } from './amend-request.ts';
import type { CacheCounters } from './cache-counters.ts';
import type { Child } from './child.ts';
import type { BitmapCapability } from './bitmap-capability.ts';
import type { DirtyBitmap } from './dirty-bitmap.ts';
import type { BlockStatus, Extent, Placement } from './extent.ts';
import type { Limits } from './limits.ts';
import type { Node } from './node.ts';
import type { GraphObject } from './objects.ts';
import type { PermissionPair, Roles } from './permissions.ts';
import type { CommonOptions, OptionEntries, OptionsOf } from './schema.ts';
import type { Abilities } from './subformat.ts';
import type { UnpackService } from '../util/unpack-service.ts';
import type { SnapshotCapability, SnapshotInfo } from './snapshot-capability.ts';

export type DriverKind = 'protocol' | 'format' | 'filter';

export const WriteFlag = { none: 0, fua: 1 } as const;
export const ZeroFlag = { none: 0, fua: 1, mayUnmap: 2, noFallback: 4 } as const;

/** What every open driver has, whatever its family. */
export interface OpenDriverBase {
  /** Bytes. Read for every request: keep it a field or a trivial getter. */
  readonly size: number;
  readonly limits: Limits;
  /** The image can't be written though it was asked for (read-only medium with auto-read-only, format without writer). */
  readonly readOnly?: boolean;
  /** Everything acknowledged so far is on stable storage when this resolves. Formats flush their children themselves. */
  flush(): Promise<void>;
  /** New size in bytes. New bytes read as zeroes. Never drops data unless `shrink`. */
  resize?(size: number, shrink: boolean): Promise<void>;
  /** Writes back, releases. Called once, with nothing in flight; rejects if anything could not be written. */
  close(): Promise<void>;
  /** Bytes that the image takes on its medium (st_blocks * 512); protocols only, formats are summed over their children. */
  allocatedSize?(): number;
  /** When its content was changed last, milliseconds since 1970; protocols only. */
  modifiedAt?(): number;
  /** File name as a user would give it; protocols only. */
  readonly filename?: string;
  /** Open descriptor of the whole host file, bytes at the same offsets: kernel passthrough, st_mtime, loop devices. */
  readonly hostFd?: number;
  /** The kernel may have written to `hostFd` past this program: the host file may be longer than it was. */
  remeasure?(): void;
  /** How its caches do: for drivers that have some. Names differ. */
  caches?(): readonly CacheCounters[];
  /** What `info` shows beyond the common part. */
  info?(): Promise<ImageInfo>;
  /**
   * Takes what the parents' permissions demand outside (image locks): holds old and new together until commit.
   * Throws a BlockError, having changed nothing, when it can't be had. Never waits.
   */
  setPermissions?(wanted: PermissionPair): PermissionChange;
  /**
   * Around a change of the graph above or here: requests that wait on purpose (for their share of a rate) go through, and
   * nothing new waits until the end. Calls are counted.
   */
  drainBegin?(): void;
  drainEnd?(): void;
  /** What a copy-before-write filter offers beside the disk itself: the disk as it was when the filter was opened. */
  readonly snapshot?: SnapshotView;
  /** For drivers with a list of children that may change: these are the children now. Throws when they won't do. */
  childrenChanged?(children: readonly Child[]): void;
  /** What its options change in what a child's role and the driver ask of that child. */
  adjustPermissions?(child: string, pair: PermissionPair): PermissionPair;
  /** First half of a reopen with other options; throws, having changed nothing, when they can't be had. */
  reopen?(common: CommonOptions, options: unknown): Promise<PermissionChange>;
}

/** A point-in-time view of a node that goes on being written. */
export interface SnapshotView {
  readonly size: number;
  /** Rejects with EACCES where the view is gone: dropped by `discard`, or broken by a failed copy. */
  read(bytes: Buffer, offset: number): Promise<void>;
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean;
  /** Where the bytes of the view are now. */
  tryStatus(offset: number, max: number, out: Extent): boolean;
  /** The view is no longer needed there: nothing is copied any more, and what was copied is given back. */
  discard(offset: number, length: number): Promise<void>;
}

export interface PermissionChange {
  commit(): void;
  abort(): void;
}

/** Protocols and most filters: they move bytes themselves. */
export interface RequestDriver extends OpenDriverBase {
  readonly family: 'request';
  /** Fills bytes[at, at+length) from `offset`. False: would wait; nothing is promised about bytes then. */
  tryRead?(bytes: Buffer, at: number, length: number, offset: number): boolean;
  /** All of it written, or false with nothing written. */
  tryWrite?(bytes: Buffer, at: number, length: number, offset: number): boolean;
  /** Fills `bytes`. Past the end of the file: zeroes. */
  read(bytes: Buffer, offset: number): Promise<void>;
  /** Past the end: the file grows (the node checked the resize permission). */
  write?(bytes: Buffer, offset: number, flags: number): Promise<void>;
  /** Rejects with ENOTSUP where it can't do it faster than writing; the node then writes zeroes unless noFallback. */
  writeZeroes?(offset: number, length: number, flags: number): Promise<void>;
  /** A hint: the content becomes undefined or zero. ENOTSUP is ignored by the node. */
  discard?(offset: number, length: number): Promise<void>;
  /** What lies at `offset`: `data` (with offset = place in the file), `zero` or `eof`. Without it everything is data. */
  tryStatus?(offset: number, max: number, out: Extent): boolean;
  /** Where tryStatus may say false: gets what the one that just did lacked, to be tried again at once. */
  loadStatus?(): Promise<void>;
}

/** A filter leaves out what its filtered child does as well: the node passes it on. */
export type FilterDriver = { readonly family: 'filter' } & Partial<
  Omit<RequestDriver, 'family' | 'limits' | 'size'>
> & {
    /** Merged with the child's. */
    readonly limits?: Partial<Limits>;
    readonly size?: number;
  };

/** Formats: they answer where a range is; the core (mapped.ts) moves the bytes. */
export interface MappingDriver extends OpenDriverBase {
  readonly family: 'mapping';
  /** Says what lies at `offset`, for up to `max` bytes. Neighbouring pieces with one answer are one extent. */
  tryMap(offset: number, max: number, out: Extent): boolean;
  /**
   * Brings into memory what the try that just returned false lacked. Call it in the same turn as that try; the
   * try is then repeated, as often as it takes. Rejects when the table can't be read or no room can be made.
   */
  load(): Promise<void>;
  /**
   * Names a place for at most [offset, offset + length): `out.start` <= offset < start + length of the place. The core
   * holds the allocation units touched exclusively from before the call until commit or abort, fills the whole place,
   * then commits. Nothing of it is visible to tryMap before commit.
   */
  tryAllocate?(offset: number, length: number, out: Placement): boolean;
  /** The place is filled: point the tables at it. Never waits, never fails: whatever it needs was loaded and kept. */
  commit?(place: Placement): void;
  /** The place was not filled: give it back. */
  abort?(place: Placement): void;
  /**
   * Stores one allocation unit compressed (the last one may end with the disk). The core holds it exclusively.
   * False: it would not be smaller, nothing was changed; the core then writes it as it is.
   */
  writeCompressed?(bytes: Buffer, offset: number): Promise<boolean>;
  /** Fills `bytes` from an `opaque` extent; may span several. */
  readOpaque?(bytes: Buffer, offset: number): Promise<void>;
  /** The same from what is in memory (a cache of decompressed clusters). */
  tryReadOpaque?(bytes: Buffer, at: number, length: number, offset: number): boolean;
  /**
   * Makes a range read as zeroes by metadata alone. Returns how many bytes from `offset` it did (0: this piece, up to
   * the next allocation unit, has to be written), or false to load. The core holds the range exclusively.
   */
  tryZero?(offset: number, length: number, mayUnmap: boolean): number | false;
  /** Releases whole allocation units. Returns the bytes handled, skipping what can't be released, or false to load. */
  tryDiscard?(offset: number, length: number): number | false;
  /** Snapshots inside the image. Called with nothing under way above the node, one at a time. */
  readonly snapshots?: SnapshotCapability;
  /** Dirty bitmaps inside the image. */
  readonly dirtyBitmaps?: BitmapCapability;
  /** Writes another name of the backing file (none: undefined) into the image; the open backing child stays as it is. */
  changeBacking?(filename: string | undefined, format: string | undefined): Promise<void>;
  /** Changes what the image was created with, or rejects with nothing changed. Only closing it follows. */
  amend?(request: AmendRequest): Promise<void>;
  /** Drops everything that the image holds, so that it shows its backing file alone; nothing is under way above the node. */
  makeEmpty?(): Promise<void>;
  /** Whether a `data` extent may be a hole in the file below: raw, preallocated images. Then status asks there as well. */
  readonly recurseStatus?: boolean;
  /** Applied to the bytes of every `data` extent: encryption. */
  readonly codec?: DataCodec | undefined;
}

/** A length-preserving transformation of stored data, in units of `unit` bytes of the node's address space. */
export interface DataCodec {
  readonly unit: number;
  /** In place. `offset` is the node's, `place` the child's; the driver uses the one its format counts by. */
  decode(bytes: Buffer, at: number, length: number, offset: number, place: number): void;
  encode(bytes: Buffer, at: number, length: number, offset: number, place: number): void;
}

export type OpenDriver = RequestDriver | FilterDriver | MappingDriver;

/** A name found inside an image, to be opened through the gate. */
export interface ImageReference {
  /** As it stands in the image; relative to the directory of the image that names it. */
  readonly filename: string;
  /** Driver name; probed when undefined. */
  readonly format?: string | undefined;
  readonly roles: Roles;
  /** The child may be opened for writing (extents, data files; never backing files). */
  readonly writable?: boolean;
  /** Further names for it, tried in order where the one before is not there or is not what is meant. */
  readonly alternatives?: readonly string[];
  /**
   * Names with this ending in the folder of the image are tried last, and in the folder above where its own is called
   * `inside`: for formats that know a parent by its UUID. `verify` tells which one it is.
   */
  readonly siblings?: { readonly ending: string; readonly inside?: string };
  /** What is wrong with a candidate, in words; undefined when it is the one. What the user gives is only warned about. */
  readonly verify?: (node: Node) => Promise<string | undefined>;
}

export interface OpenContext<Options> {
  readonly nodeName: string;
  readonly options: Options;
  readonly common: CommonOptions;
  /** What messages call the image: the file name where there is one, else the node name. */
  readonly subject: string;
  /** A child that `children` declares required. */
  child(name: string): Child;
  /** A child that the user's options give, if they do. `null` when they say there is none (`backing: null`). */
  givenChild(name: string): Child | null | undefined;
  /** The child from the user's options where given (null: none), else the file that the image names, through the gate. */
  openNamed(name: string, reference: ImageReference): Promise<Child | undefined>;
  /** Takes a node that is open already as a child. */
  attach(name: string, roles: Roles, node: Node): Child;
  /** The object of that type and id (`--object throttle-group,id=...`). */
  object(type: string, id: string): GraphObject;
  /** A dirty bitmap of a node that is open; refused while somebody uses it. To be looked at now, not kept. */
  bitmap(node: string, name: string): DirtyBitmap;
  /** For what takes long to unpack in JavaScript. */
  readonly unpacker: UnpackService;
  /** The content of a file of settings that the user names (never one that an image names). */
  readText(filename: string): Promise<string>;
  /** Tells whoever watches (the control socket) of something that happened, under QEMU's name for it. */
  event(name: string, data: Readonly<Record<string, unknown>>): void;
  /**
   * The secret of that id (a passphrase or key); the user's default one, else asked for, when undefined. Not to be kept
   * longer than it takes, never to be printed. Undefined: there is none, and the image is to be opened locked: what
   * needs no key works, the rest rejects with EACCES.
   */
  secret(id: string | undefined): Promise<Buffer | undefined>;
  /** Tells the user once, on the log and where the command prints. */
  warn(message: string): void;
}

/** A name that ends in `.*` stands for a list: `children.*` is given as `children.0`, `children.1`, ... or as a JSON array. */
export interface ChildSpec {
  readonly roles: Roles;
  readonly required: boolean;
  readonly summary: string;
}

export interface CreateContext<Options> {
  readonly options: Options;
  /** Bytes of the disk that the guest sees. */
  readonly size: number;
  readonly subject: string;
  /** The empty file, with write and resize permission. */
  readonly file: Child;
  /** Creates and opens a further file beside it (extents, data files), named as the image will name it. */
  createFile(filename: string): Promise<Child>;
  /** No further file can be made: `createFile` rejects. */
  readonly isAlone?: boolean;
  /** As OpenContext.secret. */
  secret?(id: string | undefined): Promise<Buffer | undefined>;
  /** What `info` says of another image, named as the new image will name it: formats that know their parent by a GUID. */
  describe?(filename: string, format: string | undefined): Promise<ImageInfo>;
}

export type NewImageContext = Omit<CreateContext<Readonly<Record<string, unknown>>>, 'file' | 'createFile'>;

/** Takes the content of a new image front to back, for layouts that can be written no other way. */
export interface SequentialWriter {
  /** Bytes: every piece begins at a multiple of it and, but for the last one of the disk, is a multiple of it long. */
  readonly unit: number;
  /**
   * Calls come in ascending order and need not wait for one another; `bytes` belong to the writer until it resolves. What is
   * left out reads as zeroes.
   */
  write(bytes: Buffer, offset: number): Promise<void>;
  /** Completes the image, after every write has ended; until then no program takes the file for one. */
  finish(): Promise<void>;
}

/** An image that is not made, only measured. */
export interface MeasureContext {
  readonly options: Readonly<Record<string, unknown>>;
  /** Bytes of the disk. */
  readonly size: number;
  /** Bitmaps that could be kept as well; undefined where the source can have none. */
  readonly bitmaps?: readonly Pick<DirtyBitmap, 'name' | 'granularity'>[];
  /** Bytes of the units that hold data in what would be converted; undefined for an empty disk. */
  readonly dataBytes?: (unit: number) => Promise<number>;
}

export interface ImageMeasure {
  /** Bytes of the file after a conversion, and with every part of the disk written. */
  readonly required: number;
  readonly fullyAllocated: number;
  /** Bytes that bitmaps would take beside that; undefined where there are none, or the format keeps none. */
  readonly bitmaps?: number;
}

export interface CheckOptions {
  readonly repair: 'none' | 'leaks' | 'all';
  progress?(done: number, total: number): void;
}

export interface CheckResult {
  corruptions: number;
  leaks: number;
  /** Errors of the check itself (could not read). */
  checkErrors: number;
  corruptionsFixed: number;
  leaksFixed: number;
  imageEndOffset?: number;
  totalClusters?: number;
  allocatedClusters?: number;
  fragmentedClusters?: number;
  compressedClusters?: number;
  /** One line a finding, in plain words. */
  readonly messages: string[];
}

export interface ImageInfo {
  readonly clusterSize?: number;
  readonly dirty?: boolean;
  readonly encrypted?: boolean;
  readonly compressed?: boolean;
  /** The name as the image holds it. */
  readonly backingFilename?: string;
  readonly backingFormat?: string;
  readonly snapshots?: readonly SnapshotInfo[];
  /** JSON values under QEMU's keys. */
  readonly formatSpecific?: Readonly<Record<string, unknown>>;
}

export interface Driver<Entries extends OptionEntries = OptionEntries> extends Abilities {
  readonly name: string;
  readonly kind: DriverKind;
  /** One line for `--help` and `blockfuse formats`. */
  readonly summary: string;
  /** The driver's own options, beside the common ones (schema.ts). */
  readonly options: Entries;
  readonly children: Readonly<Record<string, ChildSpec>>;
  /** 0 (not mine) to 100 (certain), from the first bytes (at least 64 KiB or all there is) and the file name. */
  probe?(head: Buffer, filename: string, tail: Buffer, size: number): number;
  /** The form of a file name that this protocol answers to when a whole name is parsed (`nbd:`, `nbd://`). */
  readonly prefixes?: readonly string[];
  parseFilename?(filename: string): Record<string, unknown>;
  open(context: OpenContext<OptionsOf<Entries>>): Promise<OpenDriver>;
  /** Where its needs differ from the defaults for its kind (permission-defaults.ts). */
  childPermissions?(name: string, roles: Roles, parent: PermissionPair, readOnly: boolean): PermissionPair;
  readonly createOptions?: OptionEntries;
  /** Rejects what `create` would refuse, before a file is touched. */
  checkCreate?(context: NewImageContext): Promise<void>;
  create?(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void>;
  /** As `create`, with the content. Undefined, with nothing done: an image of these options can be written when it is there. */
  createSequential?(
    context: CreateContext<Readonly<Record<string, unknown>>>,
  ): Promise<SequentialWriter | undefined>;
  check?(open: OpenDriver, options: CheckOptions): Promise<CheckResult>;
  measure?(context: MeasureContext): Promise<ImageMeasure>;
}

/** Declares a driver; its option types follow from the schema. The result goes into the list of drivers/index.ts. */
export function defineDriver<const Entries extends OptionEntries>(driver: Driver<Entries>): Driver {
  return driver as unknown as Driver;
}

export type { BlockStatus, v };
