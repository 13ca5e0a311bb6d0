import fs from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { hasByteLocks, isByteLockedByOthers, lockByte, unlockByte } from '../../src/sys/byte-locks.ts';
import { createFile, fileFacts, openFile, syncData } from '../../src/sys/file.ts';
import { lockHolders } from '../../src/sys/lock-holder.ts';
import { addressIn, allocateAligned } from '../../src/sys/memory.ts';
import { PositionedIo } from '../../src/sys/positioned.ts';
import { punchHole, reserve, seekData, seekHole, zeroRange } from '../../src/sys/sparse.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 2 ** 20;
const WRITABLE = { writable: true, direct: false };

async function newFile(t: ExecutionContext, content: Buffer | string): Promise<PositionedIo> {
  const name = path.join(await tempDir(t), 'f');
  fs.writeFileSync(name, content);
  return opened(t, name);
}

async function opened(t: ExecutionContext, name: string): Promise<PositionedIo> {
  const fd = await openFile(name, 'regular', WRITABLE);
  t.teardown(() => {
    fs.closeSync(fd);
  });
  return new PositionedIo({ fd, path: name }, false);
}

test('createFile makes a sparse file and replaces one only when told', async (t) => {
  const name = path.join(await tempDir(t), 'f');
  await createFile(name, 2 ** 40, false);
  const { size, allocated } = fileFacts((await opened(t, name)).fd);
  t.deepEqual([size, allocated], [2 ** 40, 0]);
  await t.throwsAsync(createFile(name, 5, false), {
    code: 'EEXIST',
    message: `Cannot create "${name}": file exists`,
  });
  await createFile(name, 5, true);
  t.is(fs.readFileSync(name, 'latin1'), '\0'.repeat(5));
  await t.throwsAsync(createFile(path.join(name, 'x'), 1, false), { code: 'ENOTDIR' });
});

test('seekData and seekHole find the edges of holes and the end', async (t) => {
  const file = await newFile(t, Buffer.alloc(4 * MIB, 1));
  await punchHole(file, MIB, MIB);
  t.deepEqual([seekData(file.fd, 5), seekHole(file.fd, 5)], [5, MIB]);
  t.deepEqual([seekData(file.fd, MIB), seekHole(file.fd, MIB + 1)], [2 * MIB, MIB + 1]);
  t.deepEqual([seekHole(file.fd, 3 * MIB), seekData(file.fd, 4 * MIB)], [4 * MIB, 'end']);
  t.is(seekData(-1, 0), 'unknown');
});

test('zeroRange and reserve grow the file only when they may', async (t) => {
  const file = await newFile(t, 'abcdef');
  await reserve(file, 0, MIB, true);
  t.is(fileFacts(file.fd).size, 6);
  t.true(fileFacts(file.fd).allocated >= MIB);
  await zeroRange(file, 3, 7);
  t.is(fs.readFileSync(file.path, 'latin1'), 'abc\0\0\0\0\0\0\0');
  await reserve(file, 0, 20, false);
  t.is(fileFacts(file.fd).size, 20);
});

test('hundreds of background calls at once are queued, and a failure names call, file and reason', async (t) => {
  const file = await newFile(t, Buffer.alloc(MIB, 1));
  await Promise.all(Array.from({ length: 600 }, (_, index) => punchHole(file, index * 1024, 512)));
  const expected = Buffer.alloc(MIB, 1);
  for (let index = 0; index < 600; index += 1) expected.fill(0, index * 1024, index * 1024 + 512);
  t.true(fs.readFileSync(file.path).equals(expected));
  const gone = { fd: 9999, path: 'gone' };
  await t.throwsAsync(punchHole(gone, 0, 1), { code: 'EBADF', message: /^Cannot punch a hole in "gone": / });
  await t.throwsAsync(syncData(gone), { code: 'EBADF', message: /^Cannot flush "gone": / });
});

test('aligned memory is aligned, and addresses are those of the bytes', async (t) => {
  for (const length of [1, 512, 4096, 100_000]) {
    const bytes = allocateAligned(length, 4096);
    t.is(bytes.length, length);
    t.is(addressIn(bytes, 0) % 4096, 0);
  }
  const file = await newFile(t, 'abcdefgh');
  // Small Buffers share one pool, larger ones have their own memory: change between them at every call.
  for (const size of [8, 8, 9000, 8, 70_000, 9000]) {
    const bytes = Buffer.from('x'.repeat(size));
    t.true(file.tryRead(bytes, 2, 4, 3));
    t.is(bytes.toString('latin1', 0, 8), 'xxdefgxx');
  }
});

test('byte locks are seen by others only, and the holder is found', async (t) => {
  const first = await newFile(t, '');
  const second = await opened(t, first.path);
  t.true(hasByteLocks(first.fd));
  t.true(lockByte(first.fd, 201));
  t.true(lockByte(second.fd, 100));
  t.deepEqual([isByteLockedByOthers(first.fd, 201), isByteLockedByOthers(second.fd, 201)], [false, true]);
  t.deepEqual(
    [lockHolders(second.fd, 201).map(({ pid }) => pid), lockHolders(second.fd, 202)],
    [[process.pid], []],
  );
  unlockByte(first.fd, 201);
  t.false(isByteLockedByOthers(second.fd, 201));
});

test('small writes into what is cached in large pages change just their bytes, and leave no mapping', async (t) => {
  const content = Buffer.alloc(16 * MIB);
  for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(at, at);
  const file = await newFile(t, content);
  await syncData(file);
  // After a write that a busy machine held up, none is tried for a while.
  const atOnce = 'a write without waiting';
  // Clean and dirty pages, several writes to a region, the last ones at and past the end.
  for (const [index, offset] of [0, 4095, 5000, 3 * MIB - 3, 3 * MIB + 9, 9 * MIB, 16 * MIB - 5].entries()) {
    const bytes = Buffer.alloc(index % 2 === 0 ? 5 : 4096, index + 1);
    const length = Math.min(bytes.length, content.length - offset);
    await until(() => file.tryWrite(bytes, 0, length, offset), atOnce);
    bytes.copy(content, offset, 0, length);
  }
  await until(() => file.tryWrite(Buffer.alloc(8192, 9), 0, 8192, 18 * MIB), atOnce);
  t.true(content.equals(fs.readFileSync(file.path).subarray(0, content.length)));
  t.false(fs.readFileSync('/proc/self/maps', 'utf8').includes(file.path));
});
