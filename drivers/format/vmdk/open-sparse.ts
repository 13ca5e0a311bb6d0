import { AppendAllocator } from '../../../src/block/append-allocator.ts';
import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { checkTablePlaces } from './check-places.ts';
import { CompressedGrains } from './compressed-grains.ts';
import { COWD_HEADER } from './cowd-header.ts';
import { DirtyMark } from './dirty-mark.ts';
import type { ExtentDescription } from './disk-extent.ts';
import { EndMark } from './end-mark.ts';
import type { SparseGeometry } from './geometry.ts';
import { GrainTables, readDirectory } from './grain-tables.ts';
import { GrainWriter } from './grain-writer.ts';
import { decode } from './layout.ts';
import { readGeometry } from './read-header.ts';
import type { SharedState } from './shared.ts';
import { SparseExtent } from './sparse-extent.ts';
import { SPARSE_HEADER } from './sparse-header.ts';
import { WriteBack } from './write-back.ts';

export interface SparseRequest {
  readonly shared: SharedState;
  readonly file: Child;
  /** First bytes of the file. */
  readonly head: Buffer;
  readonly filename: string;
  /** The descriptor's word for it. */
  readonly format: string;
  /** Bytes of the disk before this extent. */
  readonly start: number;
  /** Bytes that the descriptor wants of it; undefined: as many as it has. */
  readonly length: number | undefined;
  readonly writable: boolean;
}

export async function openSparse(request: SparseRequest): Promise<SparseExtent> {
  const { shared, file, head, filename } = request;
  const geometry = await readGeometry(file, head, filename);
  const length = request.length ?? geometry.capacity;
  if (length > geometry.capacity) {
    const wanted = `must be ${length} as the descriptor says`;
    refuseImage(filename, `its capacity is ${geometry.capacity} bytes`, wanted);
  }
  const tables = await openTables(request, geometry);
  const description: ExtentDescription = {
    filename,
    format: request.format,
    clusterSize: geometry.grainSize,
    compressed: geometry.compressed,
  };
  const compressed = geometry.compressed
    ? new CompressedGrains({
        file,
        subject: shared.subject,
        filename,
        length,
        geometry,
        tables,
        need: shared.need,
        cache: shared.inflated,
        firstKey: request.start / 512,
      })
    : undefined;
  const writer = isWritable(request, geometry) ? openWriter(request, geometry, tables, length) : undefined;
  const { subject, need } = shared;
  return new SparseExtent({ file, subject, geometry, tables, need, length, description, writer, compressed });
}

/** What this program writes: compressed grains and seSparse it only reads. */
export const isWritable = (request: SparseRequest, geometry: SparseGeometry): boolean =>
  request.writable && !geometry.compressed && geometry.format !== 'sesparse';

async function openTables(request: SparseRequest, geometry: SparseGeometry): Promise<GrainTables> {
  const { shared, file, filename } = request;
  const { directoryEntries, directoryOffset, redundantOffset } = geometry;
  const writable = isWritable(request, geometry);
  shared.reserveDirectory(directoryEntries * 4);
  const directory = await readDirectory(file, geometry, directoryOffset);
  let redundant: Uint32Array | undefined;
  if (writable && redundantOffset !== undefined) {
    shared.reserveDirectory(directoryEntries * 4);
    redundant = await readDirectory(file, geometry, redundantOffset);
  }
  if (writable) checkTablePlaces({ geometry, directory, redundant, fileSize: file.size, filename });
  const { subject, need, cache } = shared;
  return new GrainTables({ file, subject, geometry, need, cache }, directory, redundant);
}

function openWriter(
  request: SparseRequest,
  geometry: SparseGeometry,
  tables: GrainTables,
  length: number,
): GrainWriter {
  const { shared, file, filename, head } = request;
  const { cache, need, gate, hasBacking } = shared;
  const isCowd = geometry.format === 'cowd';
  const field = isCowd ? COWD_HEADER.uncleanShutdown : SPARSE_HEADER.uncleanShutdown;
  const found = decode({ field }, head).field !== 0;
  const mark = new DirtyMark(file, field, found);
  const endMark = isCowd ? new EndMark(file, decode(COWD_HEADER, head).freeSector) : undefined;
  const allocator = new AppendAllocator(file, 0, geometry.grainSize);
  const all = shared.writeBackAll;
  const writeBack = new WriteBack({ file, filename, geometry, tables, cache, allocator, endMark, all });
  shared.writeBacks.push(writeBack);
  const parts = {
    file,
    filename,
    length,
    geometry,
    tables,
    cache,
    need,
    allocator,
    gate,
    mark,
    writeBack,
    hasBacking,
  };
  return new GrainWriter(parts);
}
