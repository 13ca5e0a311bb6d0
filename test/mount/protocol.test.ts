import test from 'ava';
import { BlockFile } from '../../mount/block-file.ts';
import { FuseExport } from '../../mount/export.ts';
import { InodeTable } from '../../mount/inode-table.ts';
import { BufferPool, IoBuffer } from '../../mount/io-buffer.ts';
import { parseMountOptions } from '../../mount/mount-options.ts';
import {
  ENTRY_OUT_SIZE,
  encodeAttrOut,
  encodeStatfsOut,
  encodeStatxOut,
  putEntryOut,
} from '../../mount/protocol/attributes.ts';
import { FileType, InitFlag, InitFlag2, MAX_PAYLOAD } from '../../mount/protocol/constants.ts';
import { DirectoryListing } from '../../mount/protocol/directory.ts';
import { negotiate } from '../../mount/protocol/init.ts';
import { InitIn } from '../../mount/protocol/layout.ts';
import { encodeInvalidateInode } from '../../mount/protocol/notify.ts';
import { RequestView } from '../../mount/protocol/request.ts';
import { Passthrough } from '../../mount/passthrough.ts';
import { Replies } from '../../mount/replies.ts';
import { SlowRequests } from '../../mount/slow-requests.ts';
import { Directory, TextFile } from '../../mount/tree.ts';
import { BlockError } from '../../src/block/errors.ts';
import { MemoryRoot } from './fixtures/memory-root.ts';

const ALL = 0xffff_ffff;

function initRequest(minor: number, flags: number, flags2: number): RequestView {
  const bytes = Buffer.alloc(104);
  bytes.writeUInt32LE(7, InitIn.major);
  bytes.writeUInt32LE(minor, InitIn.minor);
  bytes.writeUInt32LE(131_072, InitIn.maxReadahead);
  bytes.writeUInt32LE(flags, InitIn.flags);
  bytes.writeUInt32LE(flags2, InitIn.flags2);
  const view = new RequestView();
  view.set(bytes, 0, bytes.length);
  return view;
}

test('negotiate takes what both know', (t) => {
  const { minor, passthrough, directIoMmap, reply } = negotiate(initRequest(99, ALL, ALL), true);
  t.deepEqual({ minor, passthrough, directIoMmap }, { minor: 45, passthrough: true, directIoMmap: true });
  t.is(reply.length, 64);
  t.is(reply.readUInt32LE(0), 7);
  t.is(reply.readUInt32LE(4), 45);
  t.is(reply.readUInt32LE(20), MAX_PAYLOAD, 'max_write');
  t.is(reply.readUInt16LE(28), 256, 'max_pages');
  t.is(reply.readUInt32LE(36), 1, 'max_stack_depth');
  const flags = reply.readUInt32LE(12);
  t.not(flags & InitFlag.maxPages, 0);
  t.is(flags & (1 << 16), 0, 'no write-back cache');
  t.not(reply.readUInt32LE(32) & InitFlag2.passthrough, 0);
});

test('negotiate does without what an older kernel lacks', (t) => {
  const old = negotiate(initRequest(31, InitFlag.maxPages + InitFlag.asyncRead, ALL), true);
  t.is(old.minor, 31);
  t.false(old.passthrough, 'flags2 counts with INIT_EXT only');
  t.is(old.reply.readUInt32LE(12), InitFlag.maxPages + InitFlag.asyncRead);
  t.is(old.reply.readUInt32LE(32), 0);
  t.false(negotiate(initRequest(45, ALL, ALL), false).passthrough);
});

test('negotiate refuses a kernel that is too old', (t) => {
  const error = t.throws(() => negotiate(initRequest(27, 0, 0), false), { instanceOf: BlockError });
  t.is(error.code, 'EPROTO');
  t.regex(error.message, /protocol is 7\.27, 7\.28 or a later/);
});

test('RequestView refuses numbers beyond 2^53 and requests cut off', (t) => {
  const bytes = Buffer.alloc(64);
  const view = new RequestView();
  view.set(bytes, 0, 56);
  bytes.writeBigUInt64LE(BigInt(Number.MAX_SAFE_INTEGER), 40);
  t.is(view.u64(40), Number.MAX_SAFE_INTEGER);
  bytes.writeBigUInt64LE(2n ** 53n, 40);
  t.throws(() => view.u64(40), { code: 'EOVERFLOW' });
  t.throws(() => view.u64(56), { code: 'EINVAL' });
  bytes.write('name\0rest', 40);
  t.is(view.name(40), 'name');
});

const ATTRIBUTES = {
  nodeId: 6,
  ino: 7,
  size: 2 ** 44 + 1,
  allocated: 1000,
  atime: { sec: -5, nsec: 6 },
  mtime: { sec: 1, nsec: 2 },
  ctime: { sec: 3, nsec: 4 },
  mode: FileType.regular + 0o640,
  nlink: 1,
  uid: 11,
  gid: 12,
  blockSize: 65_536,
};

test('attributes lie where fuse_attr, fuse_entry_out and fuse_statx have them', (t) => {
  const attr = encodeAttrOut(ATTRIBUTES, { entry: 1, attributes: 2 });
  t.is(attr.length, 104);
  t.is(attr.readBigUInt64LE(0), 2n);
  t.is(attr.readBigUInt64LE(16 + 8), 2n ** 44n + 1n);
  t.is(attr.readBigUInt64LE(16 + 16), 2n, 'blocks of 512, rounded up');
  t.is(attr.readBigInt64LE(16 + 24), -5n);
  t.is(attr.readUInt32LE(16 + 60), 0o100640);
  const entry = Buffer.alloc(ENTRY_OUT_SIZE);
  putEntryOut(entry, 0, ATTRIBUTES, { entry: 1, attributes: 2 });
  t.is(entry.readBigUInt64LE(0), 6n);
  t.deepEqual(entry.subarray(40), attr.subarray(16));
  const statx = encodeStatxOut(ATTRIBUTES, { entry: 1, attributes: 2 });
  t.is(statx.length, 288);
  t.is(statx.readUInt16LE(32 + 28), 0o100640);
  t.is(statx.readBigUInt64LE(32 + 40), 2n ** 44n + 1n);
  t.is(statx.readBigInt64LE(32 + 64), -5n);
  t.is(statx.readBigInt64LE(32 + 112), 1n, 'mtime is the last of the times');
});

test('encodeStatfsOut, encodeInvalidateInode', (t) => {
  const usage = {
    blocks: 1,
    freeBlocks: 2,
    availableBlocks: 3,
    files: 4,
    freeFiles: 5,
    blockSize: 4096,
    nameLength: 255,
    fragmentSize: 512,
  };
  const bytes = encodeStatfsOut(usage);
  t.is(bytes.length, 80);
  t.deepEqual([bytes.readBigUInt64LE(32), bytes.readUInt32LE(40), bytes.readUInt32LE(48)], [5n, 4096, 512]);
  const message = encodeInvalidateInode(9, 4096, 8192);
  t.deepEqual([message.readUInt32LE(0), message.readInt32LE(4), message.readBigUInt64LE(8)], [40, 2, 0n]);
  t.is(message.readBigInt64LE(32), 8192n);
});

test('DirectoryListing stops when the room is used up', (t) => {
  const listing = new DirectoryListing(100);
  t.true(listing.add({ name: 'a-name', ino: 5, type: FileType.directory }, 1));
  t.true(listing.add({ name: '123456789', ino: 6, type: FileType.regular }, 2));
  t.false(listing.add({ name: 'c', ino: 7, type: FileType.regular }, 3));
  const bytes = listing.finish();
  t.is(bytes.length, 32 + 40);
  t.is(bytes.readUInt32LE(20), 4, 'DT_DIR');
  t.is(bytes.readBigUInt64LE(32 + 8), 2n);
  t.is(bytes.toString('utf8', 32 + 24, 32 + 33), '123456789');
});

test('IoBuffer aligns the data; BufferPool counts what is out', (t) => {
  for (const size of [4096, 65_536, MAX_PAYLOAD]) {
    const buffer = new IoBuffer(size);
    t.is(buffer.address % 4096, 0);
    t.true(buffer.data >= 80);
    t.true(buffer.data + size <= buffer.bytes.length);
    buffer.words[buffer.replyWord] = 0x01020304;
    t.is(buffer.bytes.readUInt32LE(buffer.data - 16), 0x01020304);
  }
  const pool = new BufferPool();
  const [one, two] = [pool.take(1), pool.take(70_000)];
  t.is(pool.bytesInUse, 4096 + 262_144);
  pool.give(one);
  pool.give(two);
  t.is(pool.bytesInUse, 0);
  t.is(pool.take(4096), one);
});

test('Replies writes header and body in one piece', (t) => {
  const io = new IoBuffer(4096);
  const sent: Buffer[] = [];
  const replies = new Replies({
    write: (_address, length) => {
      sent.push(Buffer.from(io.bytes.subarray(io.data - 16, io.data - 16 + length)));
      return 0;
    },
  });
  replies.body({ low: 5, high: 1 }, io, Buffer.from('body'));
  replies.failure({ low: 6, high: 0 }, io, new BlockError('ENOSPC', 'Cannot write "x": full'));
  replies.failure({ low: 6, high: 0 }, io, new Error('a bug'));
  const [body, full, bug] = sent;
  t.deepEqual(body, Buffer.from('14000000' + '00000000' + '0500000001000000' + '626f6479', 'hex'));
  t.is(full?.length, 16);
  t.is(full?.readInt32LE(4), -28);
  t.is(bug?.readInt32LE(4), -5, 'what carries no errno is EIO');
});

test('parseMountOptions: later words win, unknown ones are named', (t) => {
  t.like(parseMountOptions([]), { flags: 6, flagNames: ['nosuid', 'nodev'], allowOther: false });
  const parsed = parseMountOptions([
    'suid',
    'ro',
    'noexec',
    'exec',
    'max_read=4096',
    'fsname=a=b',
    'x-systemd.idle',
    'allow_other',
  ]);
  t.like(parsed, { flags: 5, data: ['max_read=4096'], fsname: 'a=b', subtype: undefined, allowOther: true });
  t.throws(() => parseMountOptions(['bogus']), { code: 'EINVAL', message: /option "bogus": it is unknown/ });
  t.throws(() => parseMountOptions(['max_read=x']), { code: 'EINVAL' });
});

const newExport = (): FuseExport =>
  new FuseExport({ id: 'e', writable: true, growable: false, discard: true }).attach(new MemoryRoot(4096));

test('FuseExport: a drain waits for what is under way and holds back the rest in order', async (t) => {
  const target = newExport();
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = target.run({ cancel: undefined }, () => gate.promise.then(() => order.push('first')));
  target.drainBegin();
  const drained = target.drained().then(() => order.push('drained'));
  const second = target.run({ cancel: undefined }, async () => order.push('second'));
  const third = target.run({ cancel: undefined }, async () => order.push('third'));
  gate.resolve();
  await drained;
  t.deepEqual(order, ['first', 'drained']);
  target.drainBegin();
  target.drainEnd();
  await first;
  t.deepEqual(order, ['first', 'drained'], 'drains are counted');
  target.drainEnd();
  const again = target.drained();
  await Promise.all([second, third, again]);
  t.deepEqual(order, ['first', 'drained', 'second', 'third']);
});

test('FuseExport: a request that waits for a drain is cancelled with EINTR', async (t) => {
  const target = newExport();
  const owner: { cancel: (() => void) | undefined } = { cancel: undefined };
  target.drainBegin();
  const request = target.run(owner, async () => t.fail('must not start'));
  owner.cancel?.();
  await t.throwsAsync(request, { code: 'EINTR' });
  await target.drained();
  target.drainEnd();
  t.is(owner.cancel, undefined);
});

test('SlowRequests: interrupt reaches the request by its number', async (t) => {
  const slow = new SlowRequests();
  const request = slow.begin({ low: 4, high: 2 });
  let cancelled = 0;
  request.cancel = () => {
    cancelled += 1;
  };
  slow.interrupt(4);
  t.is(cancelled, 0);
  slow.interrupt(2 * 2 ** 32 + 4);
  t.is(cancelled, 1);
  const idle = slow.idle();
  slow.end(request);
  await idle;
  t.is(slow.count, 0);
});

test('InodeTable: numbers are stable and never used again', async (t) => {
  const root = new Directory();
  const table = new InodeTable(root);
  const [one, two] = [new TextFile(async () => ''), new TextFile(async () => '')];
  t.is(root.ino, 1);
  table.remember(one);
  table.remember(one);
  table.remember(two);
  table.forget(one.ino, 1);
  t.is(table.get(2), one);
  table.forget(one.ino, 1);
  t.throws(() => table.get(2), { code: 'ESTALE' });
  table.remember(one);
  t.is(one.ino, 2);
  table.forget(1, 99);
  t.is(table.get(1), root);
  root.add('x', one);
  t.throws(
    () => {
      root.add('x', two);
    },
    { code: 'EEXIST' },
  );
});

test('Passthrough: all opens of a disk agree until the last is closed', (t) => {
  const closed: number[] = [];
  let next = 1;
  const passthrough = new Passthrough({ openBacking: () => next++, closeBacking: (id) => closed.push(id) });
  let offered = true;
  const host = { fd: 3, mtime: () => ({ sec: 1, nsec: 0 }), remeasure: () => undefined };
  const file = new BlockFile({ export: newExport(), passthrough: () => (offered ? host : undefined) });
  t.is(passthrough.open(file), 0, 'not agreed on with the kernel');
  passthrough.enabled = true;
  t.is(passthrough.open(file), 0, 'stays as it is while one is open');
  passthrough.release(file);
  passthrough.release(file);
  t.is(passthrough.open(file), 1);
  offered = false;
  t.is(passthrough.open(file), 1);
  t.true(passthrough.isOpen(file));
  passthrough.release(file);
  t.deepEqual(closed, []);
  passthrough.release(file);
  t.deepEqual(closed, [1]);
  t.is(passthrough.open(file), 0);
});

test('Passthrough: a disk that is opened while the graph below it changes is not passed through', (t) => {
  const passthrough = new Passthrough({ openBacking: () => 1, closeBacking: () => undefined });
  passthrough.enabled = true;
  const target = newExport();
  const host = { fd: 3, mtime: () => ({ sec: 1, nsec: 0 }), remeasure: () => undefined };
  const file = new BlockFile({ export: target, passthrough: () => host });
  target.drainBegin();
  t.is(passthrough.open(file), 0);
  target.drainEnd();
  t.is(passthrough.open(file), 0, 'stays as it is while one is open');
  passthrough.release(file);
  passthrough.release(file);
  t.is(passthrough.open(file), 1);
});
