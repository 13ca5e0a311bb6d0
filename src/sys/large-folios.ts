/**
 * Splits the large pages (folios) of a host file's page cache before small writes go into them.
 *
 * A file that was written or read ahead in large pieces is cached in folios of up to 2 MiB. ext4 walks every block of the folio for
 * each write into it: 4 KiB then cost 30 us instead of 3 (Linux 6.18). Told that one page in the middle of a mapped folio
 * is cold, the kernel splits the folio into single pages, which takes 0.2 ms once. Nothing but speed depends on it: content,
 * dirty pages and the cache stay as they are, and a folio with dirty pages is not split.
 *
 *   first small write in a region -> is the page cached (RWF_NOWAIT)? -> map it -> MADV_POPULATE_READ -> MADV_COLD -> unmap
 */
import { libc } from './libc.ts';

const PAGE = 4096;
/** The distance of two attempts: folios of up to this size cost little, and a part of the disk may be cached in several. */
const REGION = 262_144;
/** Writes as large as this cost about as much in one folio as in single pages. */
const SMALL = 262_144;
/** Regions that are remembered, by their number modulo this: enough for 2 GiB in use. */
const REMEMBERED = 8192;
/** Milliseconds until a region is tried again: its folio may have been dirty, or the region be cached anew. */
const AGAIN = 5000;
const PROT_READ = 1;
const MAP_SHARED = 1;
const MADV_COLD = 20;
const MADV_POPULATE_READ = 22;
const MAP_FAILED = -1;

const mmap = libc.func(
  'intptr_t mmap(uintptr_t at, size_t length, int protection, int flags, int fd, int64_t offset)',
) as (at: number, length: number, protection: number, flags: number, fd: number, offset: number) => number;
const munmap = libc.func('int munmap(uintptr_t at, size_t length)') as (at: number, length: number) => number;
const madvise = libc.func('int madvise(uintptr_t at, size_t length, int advice)') as (
  at: number,
  length: number,
  advice: number,
) => number;

/** Of one open file, readable and on a file system that is slow with large folios. Allocates nothing after it is made. */
export class LargeFolios {
  private readonly fd: number;
  /** Whether the page at an offset is in the cache now; waits for nothing. */
  private readonly isCached: (offset: number) => boolean;
  /** Number of the region, plus one, that was split last in this place. */
  private readonly split = new Float64Array(REMEMBERED);
  /** When that was. */
  private readonly when = new Float64Array(REMEMBERED);

  constructor(fd: number, isCached: (offset: number) => boolean) {
    this.fd = fd;
    this.isCached = isCached;
  }

  /** To be called before [offset, offset + length) is written; `now` in milliseconds. */
  beforeWrite(offset: number, length: number, now: number): void {
    if (length >= SMALL) return;
    const region = Math.floor(offset / REGION) + 1;
    const place = region % REMEMBERED;
    if (this.split[place] === region && now - (this.when[place] ?? 0) < AGAIN) return;
    this.split[place] = region;
    this.when[place] = now;
    if (this.isCached(offset)) this.splitAt(offset - (offset % PAGE));
  }

  private splitAt(page: number): void {
    const at = mmap(0, PAGE, PROT_READ, MAP_SHARED, this.fd, page);
    if (at === MAP_FAILED) return;
    if (madvise(at, PAGE, MADV_POPULATE_READ) === 0) madvise(at, PAGE, MADV_COLD);
    munmap(at, PAGE);
  }
}
