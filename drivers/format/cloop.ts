/**
 * Compressed loop image, version 2, big-endian, read only:
 *
 *     128 bytes of shell script | u32 block size | u32 blocks | u64 offset of each block, and of the end | zlib streams
 */
import type { CacheCounters } from '../../src/block/cache-counters.ts';
import type { Child } from '../../src/block/child.ts';
import { DecompressedCache, readBlocks, tryReadBlocks } from '../../src/block/decompressed-cache.ts';
import type { ImageInfo, MappingDriver, OpenContext } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { Extent } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';
import { ReadAhead } from '../../src/block/read-ahead.ts';
import { damaged, refuseImage } from '../../src/block/refuse.ts';
import { TableCache } from '../../src/block/table-cache.ts';
import { readU64BE } from '../../src/util/bytes.ts';
import type { UnpackService } from '../../src/util/unpack-service.ts';

const PREAMBLE = 128;
const TABLE = PREAMBLE + 8;
const BLOCK_MAX = 64 * 1024 * 1024;
const SLICE = 64 * 1024;
const SLICES = 64;
/** Bytes and blocks read ahead of a sequential reader. */
const AHEAD_BYTES = 4 * 1024 * 1024;
const AHEAD_MAX = 16;
const ANY_VERSION = /^#!\/bin\/sh\n#V(\d+\.\d+) Format\n(?=[^]*cloop)/;

interface Layout {
  readonly blockSize: number;
  readonly blocks: number;
}

class CloopImage implements MappingDriver {
  readonly family = 'mapping';
  readonly readOnly = true;
  readonly limits = limits({});
  readonly size: number;
  private readonly file: Child;
  private readonly subject: string;
  private readonly layout: Layout;
  private readonly unpacker: UnpackService;
  private readonly table: TableCache;
  private readonly cache = new DecompressedCache();
  private readonly ahead: ReadAhead;

  constructor(
    file: Child,
    layout: Layout,
    { subject, unpacker }: Pick<OpenContext<object>, 'subject' | 'unpacker'>,
  ) {
    this.file = file;
    this.layout = layout;
    this.subject = subject;
    this.unpacker = unpacker;
    this.size = layout.blocks * layout.blockSize;
    this.table = new TableCache({
      file,
      sliceBytes: SLICE,
      maxSlices: SLICES,
      makeClean: () => Promise.resolve(),
    });
    const depth = Math.min(AHEAD_MAX, Math.floor(AHEAD_BYTES / layout.blockSize));
    this.ahead = new ReadAhead(depth, (index) => {
      if (index >= layout.blocks) return false;
      // A failure is told to whoever asks for it.
      if (!this.cache.has(index)) this.fetch(index).catch(() => {});
      return true;
    });
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return out.setOpaque(Math.min(max, this.size - offset), true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    this.noteReading(offset, bytes.length);
    await readBlocks(bytes, offset, this.layout.blockSize, (index) => this.fetch(index));
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { blockSize } = this.layout;
    if (!tryReadBlocks({ bytes, at, length }, offset, blockSize, (index) => this.cache.get(index)))
      return false;
    this.noteReading(offset, length);
    return true;
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return this.cache.settled();
  }

  caches(): CacheCounters[] {
    return [this.table.counters(), this.cache.counters()];
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve({ clusterSize: this.layout.blockSize, compressed: true });
  }

  private noteReading(offset: number, length: number): void {
    const { blockSize } = this.layout;
    this.ahead.note(Math.floor(offset / blockSize), Math.floor((offset + length - 1) / blockSize));
  }

  private fetch(index: number): Promise<Buffer> {
    return this.cache.fetchInto(index, this.layout.blockSize, (room) => this.decompress(index, room));
  }

  private async decompress(index: number, room: Buffer): Promise<void> {
    const { blockSize } = this.layout;
    const start = await this.offsetOf(index);
    const end = await this.offsetOf(index + 1);
    const most = blockSize + Math.ceil(blockSize / 1000) + 1024;
    const least = TABLE + (this.layout.blocks + 1) * 8;
    if (!(start >= least && end > start && end - start <= most && end <= this.file.size)) {
      const wanted = `must be 1 to ${most} bytes from ${least} to ${this.file.size}`;
      throw damaged(this.subject, `block ${index} lies from ${start} to ${end}`, wanted);
    }
    const packed = Buffer.allocUnsafe(end - start);
    await this.file.read(packed, start);
    const job = { packing: 'zlib', size: blockSize } as const;
    await this.unpacker.unpackInto(packed, job, room).catch((error: unknown) => {
      const wanted = `must be a zlib stream of ${blockSize} bytes`;
      throw damaged(this.subject, `block ${index} at ${start}: ${String(error)}`, wanted);
    });
  }

  private async offsetOf(index: number): Promise<number> {
    const at = index * 8;
    const sliceOffset = TABLE + at - (at % SLICE);
    for (;;) {
      const slice = this.table.get(sliceOffset);
      if (slice !== undefined) return readU64BE(slice.bytes, at % SLICE);
      await this.table.load();
    }
  }
}

async function open(context: OpenContext<object>): Promise<MappingDriver> {
  const { subject } = context;
  const file = context.child('file');
  const bytes = Buffer.alloc(TABLE);
  await file.read(bytes, 0);
  const version = ANY_VERSION.exec(bytes.toString('latin1', 0, PREAMBLE))?.[1];
  if (version === undefined)
    refuseImage(subject, 'the preamble is none of a cloop image', 'must name version 2.0');
  if (version !== '2.0') refuseImage(subject, `version is ${version}`, 'must be 2.0', 'ENOTSUP');
  const blockSize = bytes.readUInt32BE(PREAMBLE);
  const blocks = bytes.readUInt32BE(PREAMBLE + 4);
  if (blockSize < 512 || blockSize % 512 !== 0 || blockSize > BLOCK_MAX) {
    refuseImage(subject, `block_size is ${blockSize}`, `must be a multiple of 512 up to ${BLOCK_MAX}`);
  }
  if (TABLE + (blocks + 1) * 8 > file.size) {
    refuseImage(
      subject,
      `num_blocks is ${blocks}`,
      `their offsets must lie inside the file (${file.size} bytes)`,
    );
  }
  return new CloopImage(file, { blockSize, blocks }, context);
}

export const cloopDriver = defineDriver({
  name: 'cloop',
  kind: 'format',
  summary: 'Compressed loop image of live systems, read only',
  onlyRead: true,
  options: {},
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The image file' },
  },
  probe: (head) => (ANY_VERSION.test(head.toString('latin1', 0, PREAMBLE)) ? 90 : 0),
  open,
});
