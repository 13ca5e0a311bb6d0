import { AppendAllocator } from '../../../src/block/append-allocator.ts';
import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { checkTablePlaces } from './check-places.ts';
import { CompressedGrains } from './compressed-grains.ts';
import { COWD_HEADER } from './cowd-header.ts';
import { DirtyMark } from './dirty-mark.ts';
import type { ExtentDescription } from './disk-extent.ts';
import { EndMark } from './end-mark.ts';
import type { ExtentLine } from './extent-line.ts';
import type { SparseGeometry } from './geometry.ts';
import { GrainSpace } from './grain-space.ts';
import { GrainTables, readDirectory } from './grain-tables.ts';
import { GrainWriter } from './grain-writer.ts';
import { decode } from './layout.ts';
import { readGeometry, readHead } from './read-header.ts';
import type { SharedState } from './shared.ts';
import { surveyGrains } from './survey.ts';
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
  /** Of the descriptor's line. */
  readonly access: ExtentLine['access'];
  /** To be written from the start. */
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
        unpacker: shared.unpacker,
        cache: shared.inflated,
        firstKey: request.start / 512,
      })
    : undefined;
  const makeWriter = (): Promise<GrainWriter> => openWriter(request, geometry, tables, length);
  const canWrite = request.access === 'RW' && !geometry.compressed && geometry.format !== 'sesparse';
  const writer = canWrite && request.writable ? await makeWriter() : undefined;
  const { subject, need } = shared;
  const parts = { file, subject, geometry, tables, need, length, description, compressed };
  const again = async (wanted: number): Promise<SparseExtent> => {
    const writable = extent.writer !== undefined;
    return openSparse({ ...request, head: await readHead(file), length: wanted, writable });
  };
  const reopen = canWrite && geometry.format === 'sparse' ? again : undefined;
  const extent = new SparseExtent(
    { ...parts, makeWriter: canWrite ? makeWriter : undefined, reopen },
    writer,
  );
  return extent;
}

async function openTables(request: SparseRequest, geometry: SparseGeometry): Promise<GrainTables> {
  const { shared, file } = request;
  shared.reserveDirectory(geometry.directoryEntries * 4);
  const directory = await readDirectory(file, geometry, geometry.directoryOffset);
  const { subject, need, cache } = shared;
  return new GrainTables({ file, subject, geometry, need, cache }, directory);
}

/** What writing takes beside reading: the redundant directory, tables that lie apart, the marks in the header as they are. */
async function openWriter(
  request: SparseRequest,
  geometry: SparseGeometry,
  tables: GrainTables,
  length: number,
): Promise<GrainWriter> {
  const { shared, file, filename } = request;
  const { cache, need, gate, hasBacking } = shared;
  const { redundantOffset, directoryEntries } = geometry;
  if (redundantOffset !== undefined) {
    shared.reserveDirectory(directoryEntries * 4);
    tables.redundant = await readDirectory(file, geometry, redundantOffset);
  }
  const { directory, redundant } = tables;
  checkTablePlaces({ geometry, directory, redundant, fileSize: file.size, filename });
  const head = await readHead(file);
  const isCowd = geometry.format === 'cowd';
  const field = isCowd ? COWD_HEADER.uncleanShutdown : SPARSE_HEADER.uncleanShutdown;
  const mark = new DirtyMark(file, field, decode({ field }, head).field !== 0);
  const endMark = isCowd ? new EndMark(file, decode(COWD_HEADER, head).freeSector) : undefined;
  const space = new GrainSpace(
    file,
    new AppendAllocator(surveyGrains({ file, filename, geometry, tables }), 0, geometry.grainSize),
  );
  if (mark.found) shared.warn(`extent "${filename}" was not closed after it was last written: check it`);
  const common = { file, filename, geometry, tables, cache, space };
  const writeBack = new WriteBack({ ...common, endMark, all: shared.writeBackAll });
  shared.writeBacks.push(writeBack);
  return new GrainWriter({ ...common, length, need, gate, mark, writeBack, hasBacking });
}
