/**
 * The entry of the FUSE layer. How to use it:
 *
 *   const disk = new FuseExport({ id: 'e0', writable: true, growable: false, discard: true });
 *   disk.attach(child);                                  // the root child, made with `disk` as its parent
 *   const root = new Directory();                        // or the BlockFile itself where the mount point is a file
 *   root.add('disk.raw', new BlockFile({ export: disk, mtime, allocated, allocationUnit, properties, passthrough }));
 *   const mounted = await mountTree({ mountpoint, root, source: imagePath });   // resolves when the disk can be read
 *   await mounted.closed;                                // unmounted, by whomever: now flush and close the graph
 *
 * Never touch the mount synchronously from the process that serves it: it would wait for itself for ever.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BlockError, errnoOf } from '../src/block/errors.ts';
import type { FuseDevice } from '../src/sys/fuse-device.ts';
import { inspectMountPoint, PathHandle, setReadAhead } from '../src/sys/fuse-mountpoint.ts';
import type { MountEntry, MountPoint } from '../src/sys/fuse-mountpoint.ts';
import type { BlockFile } from './block-file.ts';
import type { MountOptions } from './mount-options.ts';
import { parseMountOptions } from './mount-options.ts';
import { Passthrough } from './passthrough.ts';
import { encodeInvalidateInode } from './protocol/notify.ts';
import type { FileSystemUsage } from './protocol/attributes.ts';
import { Session } from './session.ts';
import type { PageCachePolicy } from './state.ts';
import { MountState } from './state.ts';
import { connect, disconnect, removeDeadMount, topMount } from './transport/connect.ts';
import type { MountPlan } from './transport/plan.ts';
import { Directory } from './tree.ts';

export interface MountTreeOptions {
  /** An existing directory, or a regular file where `root` is a disk. */
  readonly mountpoint: string;
  readonly root: Directory | BlockFile;
  /** The image's path: `fsname` of the mount, and the file system that `df` tells of. */
  readonly source: string;
  /** Only the owner sees the mount unless `on`; `auto` is off. For others mode and owner of the files count too. */
  readonly allowOther?: 'auto' | 'on' | 'off';
  /** Words of `-o`. */
  readonly options?: readonly string[];
  readonly pageCache?: PageCachePolicy;
  /** Ask the kernel for passthrough: some disk of the tree may offer a host file. Used as root only. */
  readonly passthrough?: boolean;
  /** How requests come; `dev-fuse` when left out. */
  readonly transport?: Transport;
}

/** The kernel's own protocol on /dev/fuse, or the npm package fuse-native (transport/fuse-native.ts says what it lacks). */
export type Transport = 'dev-fuse' | 'fuse-native';

/** What somebody should know who asks for the other one. */
export const FUSE_NATIVE_LACKS =
  'the transport fuse-native has no discard, no holes (SEEK_HOLE), no passthrough and no cache, and mounts over no file; ' +
  'setting times sets both to that of access';

export interface Mounted {
  /** Absolute path. */
  readonly mountpoint: string;
  /** Whether kernel passthrough is available to this mount. */
  readonly passthrough: boolean;
  /** The kernel takes no more requests and all are answered. The graph may be flushed and closed. Never rejects. */
  readonly closed: Promise<void>;
  /** EBUSY while somebody uses it, unless `lazy`. Await `closed` afterwards; who still has it open gets errors then. */
  unmount(lazy?: boolean): Promise<void>;
  /** Ends a mount that was detached while in use, once what is under way is answered: its users get errors from then on. */
  stop(): void;
  /** Whether anybody has the disk open. */
  isUsed(file: BlockFile): boolean;
  /** Whether somebody has it open by kernel passthrough: what is read and written does not come here. */
  isPassed(file: BlockFile): boolean;
  /** The content of [offset, offset + length) or the size has changed by other ways: the kernel drops what it cached. */
  invalidate(file: BlockFile, offset?: number, length?: number): Promise<void>;
}

/**
 * How long (ms) after an unmount the kernel is given to end the connection. It does not while another mount namespace (a
 * container, a service with one of its own) holds a copy of the mount: the image must be final all the same.
 */
const COPIES_MS = 500;
/** Largest request that readahead makes, in KiB: as large as a READ can be. */
const READ_AHEAD = 1024;
const NAME_LENGTH = 255;

/** Mounts and serves a tree. Rejects with a BlockError for the user, nothing mounted then. */
export async function mountTree(options: MountTreeOptions): Promise<Mounted> {
  const at = await inspectMountPoint(options.mountpoint);
  checkKind(at, options.root);
  const words = parseMountOptions(options.options ?? []);
  const place = await PathHandle.open(placeOf(options, at)).catch(() => PathHandle.open(at.path));
  const closePlace = (): void => {
    place.close();
  };
  const parts = { options, at, usage: () => usageOf(place), closePlace };
  const plan = planFor(options, at, words);
  const giveUp = (error: unknown): never => {
    closePlace();
    throw error;
  };
  if (options.transport === 'fuse-native') return serveByFuseNative(plan, parts).catch(giveUp);
  return serve(await connect(plan).catch(giveUp), parts);
}

async function serveByFuseNative(plan: MountPlan, parts: Parts): Promise<Mounted> {
  if (plan.at.kind === 'file') {
    const text = `Cannot mount at "${plan.at.path}": the fuse-native transport needs a directory`;
    throw new BlockError('ENOTDIR', text, { path: plan.at.path });
  }
  const { mountByFuseNative } = await import('./transport/fuse-native.ts');
  const state = new MountState(parts.options.root, {
    passthrough: new Passthrough(NO_PASSTHROUGH),
    pageCache: 'never',
    usage: parts.usage,
  });
  const mounted = await mountByFuseNative(plan, state);
  void mounted.closed.then(() => {
    parts.closePlace();
  });
  return mounted;
}

/** Of a transport that has none: it is never enabled. */
const NO_PASSTHROUGH = { openBacking: () => 0, closeBacking: () => undefined };

interface Parts {
  readonly options: MountTreeOptions;
  readonly at: MountPoint;
  readonly usage: () => Promise<FileSystemUsage>;
  closePlace(): void;
}

async function serve(device: FuseDevice, parts: Parts): Promise<Mounted> {
  const { options, at } = parts;
  const passthrough = new Passthrough(device);
  const state = new MountState(options.root, {
    passthrough,
    pageCache: options.pageCache ?? 'auto',
    usage: parts.usage,
  });
  const session = new Session(device, state, {
    wantPassthrough: options.passthrough === true && process.geteuid?.() === 0,
  });
  const entry = topMount(at.path);
  const closed = session.closed.then(async () => {
    parts.closePlace();
    await removeDeadMount(entry);
  });
  const agreement = await session.ready.catch(async (error: unknown) => {
    session.stop();
    await closed;
    throw error;
  });
  await raiseReadAhead(entry);
  return {
    mountpoint: at.path,
    passthrough: agreement.passthrough,
    closed,
    unmount: async (lazy = false) => {
      await disconnect(at.path, lazy);
      await Promise.race([closed, delay(COPIES_MS)]);
      session.stop();
    },
    stop: () => {
      session.stop();
    },
    isUsed: (file) => passthrough.isUsed(file),
    isPassed: (file) => passthrough.isOpen(file),
    invalidate: (file, offset = 0, length = 0) => invalidate(session, file, { offset, length }),
  };
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

/** What the kernel has not heard of, or has forgotten (ENOENT), it has not cached. */
async function invalidate(session: Session, file: BlockFile, range: Range): Promise<void> {
  if (file.lookups === 0) return;
  await session
    .notify(encodeInvalidateInode(file.ino, range.offset, range.length))
    .catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
}

function checkKind(at: MountPoint, root: Directory | BlockFile): void {
  const wanted = root instanceof Directory ? 'directory' : 'file';
  if (at.kind === wanted) return;
  const text = `Cannot mount at "${at.path}": it is a ${at.kind}, a ${wanted} is wanted`;
  throw new BlockError(wanted === 'directory' ? 'ENOTDIR' : 'EISDIR', text, { path: at.path });
}

function planFor(options: MountTreeOptions, at: MountPoint, words: MountOptions): MountPlan {
  return {
    at,
    options: words,
    source: words.fsname ?? options.source,
    subtype: words.subtype ?? 'blockfuse',
    allowOther: options.allowOther === 'on' || words.allowOther,
  };
}

/** An image that is no local path (`nbd://`, `/dev/fdset/1`), or has no name any more: the file system of the mount point stands in. */
const placeOf = (options: MountTreeOptions, at: MountPoint): string =>
  options.source.startsWith('/') && !options.source.startsWith('/dev/fdset/') ? options.source : at.path;

async function usageOf(place: PathHandle): Promise<FileSystemUsage> {
  const usage = await place.usage();
  return { ...usage, nameLength: NAME_LENGTH, fragmentSize: usage.blockSize };
}

/** Sequential buffered reads then come in requests of full size. Only root may; without it they are smaller. */
async function raiseReadAhead(entry: MountEntry | undefined): Promise<void> {
  if (entry !== undefined && process.geteuid?.() === 0) await setReadAhead(entry.device, READ_AHEAD);
}
