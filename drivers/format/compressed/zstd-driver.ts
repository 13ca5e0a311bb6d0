import { promisify } from 'node:util';
import { constants, createZstdDecompress, zstdDecompress } from 'node:zlib';
import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { CompressedImage, readPacked } from './image.ts';
import type { Unpacker } from './image.ts';
import type { PlainStream } from './cursors.ts';
import type { Segment, SegmentList } from './segments.ts';
import { ZlibStream } from './zlib-stream.ts';
import { FRAME_MAGIC, isSkippable, readFrames } from './zstd-frames.ts';
import type { Frame } from './zstd-frames.ts';

const decompress = promisify(zstdDecompress);
const SPARE = 64;
const CHUNK = 256 * 1024;
const LONG_FRAME = 64 * 1024 * 1024;
const LIMIT = { [constants.ZSTD_d_windowLogMax]: 27 };

class ZstdUnpacker implements Unpacker {
  readonly name = 'zstd';
  readonly wholeMax = 4 * 1024 * 1024;
  readonly cursors = 2;
  readonly segments: SegmentList;
  private readonly file: Child;

  constructor(file: Child, segments: SegmentList) {
    this.file = file;
    this.segments = segments;
  }

  async unpackWhole(segment: Segment): Promise<Buffer> {
    const packed = await readPacked(this.file, segment.offset, segment.packed);
    const plain = await decompress(packed, {
      params: LIMIT,
      maxOutputLength: segment.length,
      chunkSize: segment.length + SPARE,
    });
    if (plain.length !== segment.length) throw new RangeError(`${plain.length} bytes`);
    return plain;
  }

  open(segment: Segment): PlainStream {
    return new ZlibStream(this.file, segment, createZstdDecompress({ params: LIMIT, chunkSize: CHUNK }));
  }
}

/** Bytes that a frame unpacks to which does not say it. */
async function measure(file: Child, frame: Frame, subject: string): Promise<number> {
  const segment = { index: 0, start: 0, length: 0, offset: frame.offset, packed: frame.packed, skipBits: 0 };
  const stream = new ZlibStream(file, segment, createZstdDecompress({ params: LIMIT, chunkSize: CHUNK }));
  let total = 0;
  try {
    for (let chunk = await stream.next(); chunk !== undefined; chunk = await stream.next())
      total += chunk.length;
  } catch (error) {
    const is = `the frame at ${frame.offset}: ${error instanceof Error ? error.message : String(error)}`;
    refuseImage(subject, is, 'must be a whole Zstandard frame');
  } finally {
    await stream.close();
  }
  return total;
}

async function open({ subject, ...context }: OpenContext<object>): Promise<MappingDriver> {
  const file = context.child('file');
  const segments = await readFrames(file, subject, (frame) => measure(file, frame, subject));
  if (segments.longest > LONG_FRAME) {
    context.warn(`it has a frame of ${segments.longest} bytes: reading backwards in one starts it over`);
  }
  return new CompressedImage(new ZstdUnpacker(file, segments), subject);
}

function probe(head: Buffer): number {
  if (head.length < 9) return 0;
  const magic = head.readUInt32LE(0);
  return magic === FRAME_MAGIC || (isSkippable(magic) && holdsFrame(head)) ? 70 : 0;
}

/** A file may begin with frames to be skipped: then a real one follows. */
function holdsFrame(head: Buffer): boolean {
  const at = 8 + head.readUInt32LE(4);
  return at + 4 <= head.length && head.readUInt32LE(at) === FRAME_MAGIC;
}

export const zstdDriver = defineDriver({
  name: 'zstd',
  kind: 'format',
  summary: 'A flat disk packed by zstd, read only',
  onlyRead: true,
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The packed file' },
  },
  probe,
  open,
});
