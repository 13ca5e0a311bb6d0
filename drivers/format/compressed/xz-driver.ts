import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import {
  readXzBlockHeader,
  readXzFooter,
  readXzHeader,
  readXzIndex,
  XZ_HEADER,
  XZ_MAGIC,
} from '../../../src/util/xz.ts';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import type { XzRecord } from '../../../src/util/xz.ts';
import type { PlainStream } from './cursors.ts';
import { CompressedImage, readPacked } from './image.ts';
import type { Unpacker } from './image.ts';
import type { Segment } from './segments.ts';
import { SegmentList } from './segments.ts';
import { DICTIONARY_MAX, XzStream } from './xz-stream.ts';

const INDEX_MAX = 16 * 1024 * 1024;
const LONG_BLOCK = 64 * 1024 * 1024;
/** Windows of all cursors together. */
const WINDOWS_BYTES = 256 * 1024 * 1024;

class XzUnpacker implements Unpacker {
  readonly name = 'xz';
  /** Blocks that `xz -T0` makes: they are unpacked several at a time, longer ones in steps. */
  readonly wholeMax = 24 * 1024 * 1024;
  readonly segments: SegmentList;
  readonly cursors: number;
  private readonly file: Child;
  private readonly check: number;
  private readonly unpacker: UnpackService;

  constructor(file: Child, layout: XzLayout, unpacker: UnpackService) {
    this.file = file;
    this.unpacker = unpacker;
    this.segments = layout.segments;
    this.check = layout.check;
    this.cursors = Math.max(1, Math.min(4, Math.floor(WINDOWS_BYTES / (layout.dictionary * 2 + 2 ** 21))));
  }

  async unpackWhole(segment: Segment): Promise<Buffer> {
    const { check } = this;
    const packed = await readPacked(this.file, segment.offset, Math.ceil(segment.packed / 4) * 4);
    return this.unpacker.unpack(packed, { packing: 'xz-block', size: segment.length, check });
  }

  open(segment: Segment): PlainStream {
    const { check, unpacker } = this;
    return new XzStream(this.file, segment, { check, unpacker });
  }
}

interface XzLayout {
  readonly segments: SegmentList;
  readonly check: number;
  /** The largest of the first blocks of all streams. */
  readonly dictionary: number;
}

interface Stream {
  readonly offset: number;
  readonly check: number;
  readonly records: readonly XzRecord[];
}

/** The blocks of all streams, read from the end of the file on: each stream ends with its index. */
async function readLayout(file: Child, subject: string): Promise<XzLayout> {
  const streams: Stream[] = [];
  let records = 0;
  for (let end = file.size; end > 0;) {
    end = await withoutPadding(file, end);
    const stream = await readStream(file, end, subject);
    streams.unshift(stream);
    records += stream.records.length;
    if (records > 1_000_000)
      refuseImage(subject, `it has over ${records} blocks`, 'must have at most 1000000', 'EFBIG');
    end = stream.offset;
  }
  const [first] = streams;
  if (first === undefined) refuseImage(subject, 'it has no stream', 'must have one');
  const mixed = streams.find(({ check }) => check !== first.check);
  if (mixed !== undefined) {
    refuseImage(
      subject,
      `streams have the checks ${first.check} and ${mixed.check}`,
      'must have one kind',
      'ENOTSUP',
    );
  }
  const segments = new SegmentList();
  let dictionary = 0;
  for (const { offset, records: blocks } of streams) {
    let at = offset + XZ_HEADER;
    if (blocks.length > 0) dictionary = Math.max(dictionary, await dictionaryAt(file, at));
    for (const { unpadded, plain } of blocks) {
      segments.add({ length: plain, offset: at, packed: unpadded });
      at += Math.ceil(unpadded / 4) * 4;
    }
  }
  if (!Number.isSafeInteger(segments.size))
    refuseImage(subject, 'it unpacks to over 2^53 bytes', 'must be less', 'EFBIG');
  return { segments, check: first.check, dictionary };
}

/** Streams may be followed by zeroes, four at a time. */
async function withoutPadding(file: Child, end: number): Promise<number> {
  let at = end;
  for (;;) {
    const bytes = await readPacked(file, Math.max(0, at - 4), 4);
    if (at < 4 || bytes.some((byte) => byte !== 0)) return at;
    at -= 4;
  }
}

async function readStream(file: Child, end: number, subject: string): Promise<Stream> {
  if (end < 2 * XZ_HEADER)
    refuseImage(subject, `a stream ends at ${end}`, `must have at least ${2 * XZ_HEADER} bytes`);
  const footer = readXzFooter(await readPacked(file, end - XZ_HEADER, XZ_HEADER), 0);
  const indexAt = end - XZ_HEADER - footer.indexLength;
  if (footer.indexLength > INDEX_MAX || indexAt < XZ_HEADER) {
    refuseImage(
      subject,
      `an index has ${footer.indexLength} bytes`,
      `must have at most ${INDEX_MAX}, inside the file`,
      'EFBIG',
    );
  }
  const records: XzRecord[] = [];
  let packed = 0;
  readXzIndex(await readPacked(file, indexAt, footer.indexLength), (record) => {
    records.push(record);
    packed += Math.ceil(record.unpadded / 4) * 4;
  });
  const offset = indexAt - packed - XZ_HEADER;
  if (!(offset >= 0))
    refuseImage(
      subject,
      `blocks of ${packed} bytes stand before the index at ${indexAt}`,
      'must be inside the file',
    );
  const check = readXzHeader(await readPacked(file, offset, XZ_HEADER));
  if (check !== footer.check)
    refuseImage(subject, `a stream has check ${check} and ${footer.check}`, 'must be the same');
  return { offset, check, records };
}

async function dictionaryAt(file: Child, at: number): Promise<number> {
  return readXzBlockHeader(await readPacked(file, at, 1024), 0)?.dictionary ?? 0;
}

async function open({ subject, ...context }: OpenContext<object>): Promise<MappingDriver> {
  const file = context.child('file');
  const layout = await readLayout(file, subject).catch((error: unknown) => {
    if (error instanceof RangeError) refuseImage(subject, error.message, 'must be a whole xz file');
    throw error;
  });
  const { longest } = layout.segments;
  if (Math.min(layout.dictionary, longest) > DICTIONARY_MAX) {
    refuseImage(
      subject,
      `the dictionary has ${layout.dictionary} bytes`,
      `must have at most ${DICTIONARY_MAX}`,
      'ENOTSUP',
    );
  }
  if (longest > LONG_BLOCK) {
    context.warn(
      `it has a block of ${longest} bytes: reading backwards in one starts it over (xz --block-size=8MiB avoids it)`,
    );
  }
  return new CompressedImage(new XzUnpacker(file, layout, context.unpacker), subject);
}

export const xzDriver = defineDriver({
  name: 'xz',
  kind: 'format',
  summary: 'A flat disk packed by xz, read only',
  onlyRead: true,
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The packed file' },
  },
  probe: (head) => (head.length >= 6 && head.subarray(0, 6).equals(XZ_MAGIC) ? 80 : 0),
  open,
});
