import { promisify } from 'node:util';
import { constants, inflateRaw } from 'node:zlib';
import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { aligned } from './bit-lead.ts';
import { indexGzip } from './gzip-index.ts';
import type { GzipIndex } from './gzip-index.ts';
import { CompressedImage, readPacked } from './image.ts';
import type { Unpacker } from './image.ts';
import type { Segment, SegmentList } from './segments.ts';

const inflate = promisify(inflateRaw);
/** An output chunk that is filled to its end makes zlib allocate another one for nothing. */
const SPARE = 512;

class GzipUnpacker implements Unpacker {
  readonly name = 'gzip';
  readonly cursors = 0;
  readonly wholeMax = Number.POSITIVE_INFINITY;
  readonly segments: SegmentList;
  private readonly file: Child;
  private readonly windows: readonly Buffer[];

  constructor(file: Child, { segments, windows }: GzipIndex) {
    this.file = file;
    this.segments = segments;
    this.windows = windows;
  }

  async unpackWhole(segment: Segment): Promise<Buffer> {
    const packed = await readPacked(this.file, segment.offset, segment.packed);
    const dictionary = this.windows[segment.index] ?? Buffer.alloc(0);
    const room = segment.length + SPARE;
    const plain = await inflate(aligned(packed, segment.skipBits), {
      ...(dictionary.length > 0 ? { dictionary } : {}),
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: room,
      chunkSize: Math.max(64, room),
    });
    if (plain.length < segment.length) throw new RangeError(`only ${plain.length} bytes`);
    return plain.length === segment.length ? plain : plain.subarray(0, segment.length);
  }

  open(): never {
    throw new TypeError('gzip segments are unpacked as a whole');
  }
}

async function open({ subject, ...context }: OpenContext<object>): Promise<MappingDriver> {
  const file = context.child('file');
  return new CompressedImage(
    new GzipUnpacker(file, await indexGzip(file, subject, context.unpacker)),
    subject,
  );
}

export const gzipDriver = defineDriver({
  name: 'gzip',
  kind: 'format',
  summary: 'A flat disk packed by gzip, read only; read through once when opened',
  onlyRead: true,
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The packed file' },
  },
  probe: (head) =>
    head.length >= 18 && head[0] === 0x1f && head[1] === 0x8b && head[2] === 8 && (head[3] ?? 255) < 0x20
      ? 60
      : 0,
  open,
});
