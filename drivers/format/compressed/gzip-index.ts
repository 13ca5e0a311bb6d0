/** Where a gzip file (RFC 1952) may be entered: found by going through it once, when it is opened. */
import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import type { InflateScan, ScanPoint, UnpackService } from '../../../src/util/unpack-service.ts';
import { readPacked } from './image.ts';
import { SegmentList } from './segments.ts';

const READ = 512 * 1024;
const HEADER_USUAL = 512;
const HEADER_MAX = 65536 * 2;
const FIRST_SPACING = 1024 * 1024;
const LAST_SPACING = 64 * 1024 * 1024;
/** Entry points inside members, 32 KiB of memory each. */
const WINDOWS_MAX = 2048;
/** What a segment may unpack to: it is unpacked as a whole. */
const SEGMENT_MAX = 128 * 1024 * 1024;

export interface GzipIndex {
  readonly segments: SegmentList;
  /** The bytes before each segment. */
  readonly windows: readonly Buffer[];
}

export async function indexGzip(file: Child, subject: string, unpacker: UnpackService): Promise<GzipIndex> {
  const run = new Indexer(file, subject, unpacker);
  await run.scan();
  return run.finish();
}

class Indexer {
  private readonly file: Child;
  private readonly subject: string;
  private readonly unpacker: UnpackService;
  private spacing = FIRST_SPACING;
  /** In bits of the file and bytes of the disk. */
  private points: ScanPoint[] = [];
  private windows = 0;
  /** Bits where a member's data ends and the next one's begins: points may be dropped, these may not. */
  private readonly ends: { plain: number; bit: number }[] = [];
  private plain = 0;

  constructor(file: Child, subject: string, unpacker: UnpackService) {
    this.file = file;
    this.subject = subject;
    this.unpacker = unpacker;
  }

  async scan(): Promise<void> {
    for (let at = 0; at < this.file.size;) {
      const data = await this.memberData(at);
      if (data === undefined) return;
      at = await this.scanMember(data);
    }
  }

  finish(): GzipIndex {
    const segments = new SegmentList();
    const windows: Buffer[] = [];
    let end = 0;
    for (const [index, { bit, plain, window }] of this.points.entries()) {
      const next = this.points[index + 1];
      const nextPlain = next?.plain ?? this.plain;
      while ((this.ends[end]?.plain ?? Number.POSITIVE_INFINITY) <= plain) end += 1;
      const memberEnd = this.ends[end];
      const stop = memberEnd !== undefined && memberEnd.plain <= nextPlain ? memberEnd.bit : (next?.bit ?? 0);
      const length = nextPlain - plain;
      if (length === 0) continue;
      if (length > SEGMENT_MAX) {
        refuseImage(
          this.subject,
          `a block at byte ${Math.floor(bit / 8)} unpacks to ${length} bytes`,
          `must be at most ${SEGMENT_MAX}`,
          'EFBIG',
        );
      }
      const offset = Math.floor(bit / 8);
      const fits = segments.add({ length, offset, packed: Math.ceil(stop / 8) - offset, skipBits: bit % 8 });
      if (!fits)
        refuseImage(this.subject, `it has over ${segments.count} members`, 'must have less', 'EFBIG');
      windows.push(window);
    }
    return { segments, windows };
  }

  /** Where the deflate stream of the member at `at` begins; undefined for bytes behind the last member. */
  private async memberData(at: number): Promise<number | undefined> {
    for (const most of [HEADER_USUAL, HEADER_MAX]) {
      const bytes = await readPacked(this.file, at, most);
      const isMember = bytes.length >= 18 && bytes[0] === 0x1f && bytes[1] === 0x8b;
      if (!isMember && at > 0) return undefined;
      if (!isMember) refuseImage(this.subject, 'there is no gzip header', 'must begin with 1f 8b');
      const length = this.headerLength(bytes);
      if (length < bytes.length) return at + length;
    }
    return refuseImage(
      this.subject,
      `the gzip header at ${at} goes on`,
      `must end within ${HEADER_MAX} bytes`,
    );
  }

  /** At least the length of `bytes` when it does not end within them. */
  private headerLength(bytes: Buffer): number {
    const flags = bytes[3] ?? 0;
    if (bytes[2] !== 8 || flags >= 0x20) {
      const is = `method is ${bytes[2]}, flags are ${flags}`;
      refuseImage(this.subject, is, 'must be 8 and below 32', 'ENOTSUP');
    }
    let data = 10;
    if ((flags & 4) !== 0) data += 2 + bytes.readUInt16LE(data);
    for (const flag of [8, 16]) if ((flags & flag) !== 0) data = bytes.indexOf(0, data) + 1 || bytes.length;
    return (flags & 2) === 0 ? data : data + 2;
  }

  /** Goes through one member; returns where the next one begins. */
  private async scanMember(data: number): Promise<number> {
    const before = this.plain;
    this.addPoint({ bit: data * 8, plain: before, window: Buffer.alloc(0) });
    const scan = await this.unpacker.openInflateScan();
    try {
      for (let at = data, ended = false; !ended; at += READ) {
        const bytes = await readPacked(this.file, at, READ);
        const step = await scan.step(bytes, at + READ >= this.file.size, this.spacing);
        for (const { bit, plain, window } of step.points)
          this.addPoint({ bit: data * 8 + bit, plain: before + plain, window });
        ({ ended } = step);
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refuseImage(this.subject, `near byte ${data}: ${error.message}`, 'must be a whole gzip file');
    } finally {
      scan.close();
    }
    return this.endMember(scan, data + scan.packedLength);
  }

  private async endMember(scan: InflateScan, end: number): Promise<number> {
    const trailer = await readPacked(this.file, end, 8);
    if (trailer.length < 8)
      refuseImage(this.subject, `the file ends at ${this.file.size}`, `must have 8 more bytes at ${end}`);
    const crc = trailer.readUInt32LE(0);
    const size = trailer.readUInt32LE(4);
    if (crc !== scan.crc || size !== scan.plain % 2 ** 32) {
      const is = `the member that ends at ${end} has ${scan.plain} bytes with CRC 0x${scan.crc.toString(16)}`;
      refuseImage(this.subject, is, `must have ${size} (mod 2^32) with 0x${crc.toString(16)}`, 'EIO');
    }
    this.plain += scan.plain;
    this.ends.push({ plain: this.plain, bit: end * 8 });
    return end + 8;
  }

  /** Keeps a point. When there are too many, every other one goes, and they are wider apart from then on. */
  private addPoint(point: ScanPoint): void {
    this.points.push(point);
    if (point.window.length === 0) return;
    this.windows += 1;
    if (this.windows < WINDOWS_MAX) return;
    if (this.spacing >= LAST_SPACING) {
      const is = `a member has over ${point.plain} bytes`;
      refuseImage(this.subject, is, `must have at most ${LAST_SPACING * WINDOWS_MAX}`, 'EFBIG');
    }
    this.spacing *= 2;
    let inside = 0;
    this.points = this.points.filter(({ window }) => {
      if (window.length > 0) inside += 1;
      return window.length === 0 || inside % 2 === 0;
    });
    this.windows = Math.floor(this.windows / 2);
  }
}
