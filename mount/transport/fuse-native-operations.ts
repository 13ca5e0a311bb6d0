/** The operations of a mount as fuse-native calls them: by path, answered through a callback. */
import { BlockError, errnoOf } from '../../src/block/errors.ts';
import { WriteFlag } from '../../src/block/driver.ts';
import type { FuseNativeCallback, FuseNativeOperations } from '../../src/sys/fuse-native.ts';
import { errnoNumber } from '../../src/sys/libc.ts';
import { BlockFile } from '../block-file.ts';
import type { Cancellable, RootChild } from '../export.ts';
import type { Inode } from '../inode.ts';
import { flushDisk } from '../operations/fsync.ts';
import { read } from '../operations/read.ts';
import { resizeDisk } from '../operations/setattr.ts';
import { write } from '../operations/write.ts';
import type { Attributes, TimeSpec } from '../protocol/attributes.ts';
import { OpenFlag } from '../protocol/constants.ts';
import type { MountState } from '../state.ts';
import { Directory, TextFile } from '../tree.ts';

/** Requests that are under way, and whether there may be new ones. */
export class Traffic {
  underWay = 0;
  isStopped = false;
}

type Work = (...args: never[]) => Promise<unknown[] | number>;

/** Nobody can interrupt a request here: it waits for the end of a drain. */
const NOBODY: Cancellable = { cancel: undefined };

export function fuseNativeOperations(state: MountState, traffic: Traffic): FuseNativeOperations {
  const find = (path: string): Promise<Inode> => findInode(state, path);
  const findDisk = async (path: string): Promise<BlockFile> => asDisk(await find(path));
  const works: Readonly<Record<string, Work>> = {
    init: async () => 0,
    getattr: async (path: string) => [statOf((await find(path)).attributes())],
    readdir: async (path: string) => [await list(state, await find(path))],
    open: async (path: string, flags: number) => [await open(state, await find(path), flags)],
    release: async (_path: string, fh: number) => {
      const handle = state.handles.remove(fh);
      if (handle?.inode instanceof BlockFile) state.passthrough.release(handle.inode);
      return 0;
    },
    read: (path: string, ...[fh, bytes, length, offset]: IoArguments) =>
      readOpen(state, { path, fh, bytes, length, offset }),
    write: (_path: string, ...[fh, bytes, length, offset]: IoArguments) =>
      writeOpen(state, { fh, bytes, length, offset }),
    fsync: async (path: string) => flush(await find(path)),
    flush: async () => 0,
    truncate: async (path: string, size: number) => {
      const disk = await findDisk(path);
      // Opening with O_TRUNC comes as this; see setattr.
      const { writable, growable } = disk.export.options;
      if (size !== 0 || !writable || growable) await resizeDisk(disk, size, NOBODY);
      return 0;
    },
    ftruncate: async (path: string, _fh: number, size: number) => {
      await resizeDisk(await findDisk(path), size, NOBODY);
      return 0;
    },
    utimens: async (path: string, atime: number, mtime: number) =>
      change(await find(path), { atime: timeOf(atime), mtime: timeOf(mtime) }),
    chmod: async (path: string, mode: number) => change(await find(path), { mode }),
    chown: async (path: string, uid: number, gid: number) =>
      change(await find(path), { uid: ownerOf(uid), gid: ownerOf(gid) }),
    statfs: async () => [await statfs(state)],
    getxattr: async (path: string, name: string) => [property(await find(path), name)],
    listxattr: async (path: string) => [[...(await find(path)).properties.keys()]],
  };
  return Object.fromEntries(Object.entries(works).map(([name, work]) => [name, answered(traffic, work)]));
}

/** Runs `work` for the arguments before the callback, and answers. */
function answered(traffic: Traffic, work: Work): (...args: never[]) => void {
  return (...args) => {
    const callback = args.at(-1) as unknown as FuseNativeCallback;
    if (traffic.isStopped) return callback(-errnoNumber('ENODEV'));
    traffic.underWay += 1;
    void work(...args.slice(0, -1))
      .then(
        (result) => {
          if (typeof result === 'number') callback(result);
          else callback(0, ...result);
        },
        (error: unknown) => {
          callback(-errnoNumber(errnoOf(error)));
        },
      )
      .finally(() => {
        traffic.underWay -= 1;
      });
  };
}

async function findInode(state: MountState, path: string): Promise<Inode> {
  let inode: Inode = state.inodes.get(1);
  for (const name of path.split('/').filter((part) => part !== '')) {
    const next = inode instanceof Directory ? await inode.lookup(name) : undefined;
    if (next === undefined) throw new BlockError('ENOENT', `Cannot find "${path}"`);
    inode = next;
  }
  state.inodes.number(inode);
  return inode;
}

function asDisk(inode: Inode): BlockFile {
  if (inode instanceof BlockFile) return inode;
  throw new BlockError('EPERM', 'Cannot do this: it is no disk');
}

async function list(state: MountState, inode: Inode): Promise<string[]> {
  if (!(inode instanceof Directory)) throw new BlockError('ENOTDIR', 'Cannot list: it is a file');
  const items = await inode.list();
  for (const item of items) state.inodes.number(item.inode);
  return ['.', '..', ...items.map(({ name }) => name)];
}

async function open(state: MountState, inode: Inode, flags: number): Promise<number> {
  const wantsToWrite = (flags & OpenFlag.accessMode) !== OpenFlag.readOnly;
  if (wantsToWrite && !(inode instanceof BlockFile && inode.export.options.writable))
    throw new BlockError('EROFS', 'Cannot open for writing: it is read-only');
  if (inode instanceof BlockFile) state.passthrough.open(inode);
  return state.handles.add(inode instanceof TextFile ? { inode, text: await inode.open() } : { inode });
}

type IoArguments = [fh: number, bytes: Buffer, length: number, offset: number];

interface Io {
  readonly fh: number;
  readonly bytes: Buffer;
  readonly length: number;
  readonly offset: number;
}

/** The number of bytes read. */
async function readOpen(
  state: MountState,
  { fh, bytes, length, offset }: Io & { path: string },
): Promise<number> {
  const { inode, text } = state.handles.get(fh);
  if (text !== undefined) return text.copy(bytes, 0, offset, offset + length);
  const disk = asDisk(inode);
  const work = (root: RootChild): Promise<number> => read(disk, root, { bytes, data: 0 }, { offset, length });
  return disk.export.run(NOBODY, work, 'read');
}

async function writeOpen(state: MountState, { fh, bytes, length, offset }: Io): Promise<number> {
  const disk = asDisk(state.handles.get(fh).inode);
  const request = { offset, length, flags: WriteFlag.none, fromCache: false };
  return disk.export.run(NOBODY, (root) => write(disk, root, { bytes, data: 0 }, request), 'write');
}

async function flush(inode: Inode): Promise<number> {
  if (inode instanceof BlockFile) await flushDisk(inode, NOBODY);
  return 0;
}

function change(inode: Inode, what: Parameters<Inode['change']>[0]): number {
  inode.change(what);
  return 0;
}

/** chown(2) leaves alone what is -1. */
const ownerOf = (id: number): number | undefined => (id === 0xffff_ffff || id === -1 ? undefined : id);

/** Milliseconds are what this transport has. */
function timeOf(milliseconds: number): TimeSpec {
  const whole = Math.floor(milliseconds);
  return { sec: Math.floor(whole / 1000), nsec: (whole % 1000) * 1_000_000 };
}

const millisecondsOf = ({ sec, nsec }: TimeSpec): number => sec * 1000 + Math.floor(nsec / 1_000_000);

function statOf(attributes: Attributes): Record<string, number> {
  const { mode, uid, gid, size, nlink, ino, blockSize, allocated } = attributes;
  return {
    ...{ mode, uid, gid, size, nlink, ino, blksize: blockSize, blocks: Math.ceil(allocated / 512) },
    atime: millisecondsOf(attributes.atime),
    mtime: millisecondsOf(attributes.mtime),
    ctime: millisecondsOf(attributes.ctime),
  };
}

async function statfs(state: MountState): Promise<Record<string, number>> {
  const usage = await state.usage();
  const { blocks, freeBlocks, availableBlocks, files, freeFiles, blockSize, fragmentSize } = usage;
  return {
    ...{ bsize: blockSize, frsize: fragmentSize, blocks, bfree: freeBlocks, bavail: availableBlocks },
    ...{ files, ffree: freeFiles, favail: freeFiles, namemax: usage.nameLength },
  };
}

function property(inode: Inode, name: string): Buffer {
  const value = inode.properties.get(name);
  if (value === undefined) throw new BlockError('ENODATA', `Cannot read attribute "${name}": there is none`);
  return Buffer.from(value);
}
