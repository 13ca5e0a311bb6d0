import { ZeroFlag } from '../../src/block/driver.ts';
import { Extent } from '../../src/block/extent.ts';
import { alignDown, alignUp } from '../../src/util/sizes.ts';
import type { Random } from '../helpers/random.ts';
import type { Disk } from './open-disk.ts';

export interface Play {
  readonly random: Random;
  /** Multiple of every offset and length. */
  readonly unit: number;
  readonly count: number;
  /** Requests may end this many bytes past the end and make the disk grow. */
  readonly growth: number;
}

/** Random requests, each checked against `model`, the bytes that the disk must have. Returns the model, grown with the disk. */
export async function playRequests(disk: Disk, model: Buffer, play: Play): Promise<Buffer> {
  let expected = model;
  for (let round = 0; round < play.count; round += 1) expected = await playOne(disk, expected, play);
  return expected;
}

async function playOne(disk: Disk, model: Buffer, { random, unit, growth }: Play): Promise<Buffer> {
  const kind = random.pick(['read', 'write', 'zeroes', 'unmap', 'discard', 'status'] as const);
  const limit = model.length + (kind === 'write' || kind === 'zeroes' || kind === 'unmap' ? growth : 0);
  const offset = alignDown(random.below(limit - unit), unit);
  const length = Math.min(
    alignUp(random.between(1, random.pick([unit, 65536, 300_000])), unit),
    limit - offset,
  );
  const grown = grow(model, offset + length);
  const part = grown.subarray(offset, offset + length);
  switch (kind) {
    case 'read':
      compare(await readBack(disk, random, offset, length), part, `read ${offset}+${length}`);
      return model;
    case 'write':
      random.bytes(length).copy(part);
      await writeOut(disk, random, part, offset);
      break;
    case 'zeroes':
    case 'unmap':
      part.fill(0);
      if (!(await zeroes(disk, offset, length, kind === 'unmap' ? ZeroFlag.mayUnmap : 0)))
        await disk.write(part, offset, 0);
      break;
    case 'discard':
      await disk.discard(offset, length);
      await disk.read(part, offset);
      break;
    case 'status':
      checkStatus(disk, part, offset);
      return model;
  }
  if (disk.size !== grown.length)
    throw new Error(`${kind} ${offset}+${length}: size ${disk.size}, not ${grown.length}`);
  return grown;
}

function grow(model: Buffer, size: number): Buffer {
  return size <= model.length ? model : Buffer.concat([model, Buffer.alloc(size - model.length)]);
}

async function readBack(disk: Disk, random: Random, offset: number, length: number): Promise<Buffer> {
  const at = random.below(5000);
  const bytes = Buffer.alloc(at + length, 0xee);
  if (!disk.tryRead(bytes, at, length, offset)) await disk.read(bytes.subarray(at), offset);
  if (bytes.subarray(0, at).some((byte) => byte !== 0xee))
    throw new Error('read outside the place asked for');
  return bytes.subarray(at);
}

async function writeOut(disk: Disk, random: Random, bytes: Buffer, offset: number): Promise<void> {
  const at = random.below(5000);
  const padded = Buffer.concat([Buffer.alloc(at, 0xee), bytes]);
  if (random.chance(0.5) && disk.tryWrite(padded, at, bytes.length, offset)) return;
  await disk.write(padded.subarray(at), offset, 0);
}

async function zeroes(disk: Disk, offset: number, length: number, flags: number): Promise<boolean> {
  try {
    await disk.writeZeroes(offset, length, flags);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOTSUP') return false;
    throw error;
  }
}

function checkStatus(disk: Disk, expected: Buffer, offset: number): void {
  const out = new Extent();
  for (let at = 0; at < expected.length; at += out.length) {
    if (disk.tryStatus?.(offset + at, expected.length - at, out) !== true) throw new Error('no status');
    if (out.length <= 0 || out.length > expected.length - at) throw new Error(`status length ${out.length}`);
    if (out.kind === 'zero')
      compare(expected.subarray(at, at + out.length), Buffer.alloc(out.length), 'zero status');
    else if (out.kind !== 'data' || out.offset !== offset + at)
      throw new Error(`status ${out.kind} ${out.offset}`);
  }
}

function compare(seen: Buffer, expected: Buffer, what: string): void {
  if (!seen.equals(expected)) throw new Error(`${what}: other bytes than expected`);
}
