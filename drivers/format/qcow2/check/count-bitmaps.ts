import { BlockError } from '../../../../src/block/errors.ts';
import { Piece } from '../bitmap/directory.ts';
import { readBitmapTable, readDirectory, vouchesForBitmaps } from '../bitmap/load.ts';
import { ExtensionType } from '../extensions.ts';
import { Single } from './references.ts';
import type { References } from './references.ts';

/**
 * Counts what the bitmaps extension names, as long as the header vouches for it. Returns what is wrong with it: nothing of it
 * is counted then, and the repair is that the header vouches for it no more.
 */
export async function countBitmaps(references: References): Promise<string | undefined> {
  const { image, findings } = references;
  const extension = image.extensions.find(({ type }) => type === ExtensionType.bitmaps);
  if (extension === undefined || !vouchesForBitmaps(image.header.fields)) return undefined;
  try {
    const { ranges, pieces } = await tablesOf(references, extension.data);
    for (const { offset, length, what } of ranges) references.countFixed(offset, length, what);
    countPieces(references, pieces);
    return undefined;
  } catch (error) {
    if (!(error instanceof BlockError) || error.code !== 'EINVAL') throw error;
    findings.error(error.message);
    findings.corruption('the persistent bitmaps can not be used');
    references.isCutShort = true;
    return error.message;
  }
}

interface BitmapTables {
  readonly ranges: { readonly offset: number; readonly length: number; readonly what: string }[];
  /** Of each bitmap: see parseTable. */
  readonly pieces: { readonly name: string; readonly offsets: readonly number[] }[];
}

async function tablesOf(references: References, data: Buffer): Promise<BitmapTables> {
  const { image } = references;
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', what);
  };
  const source = { file: image.file, header: image.header.fields, extensions: image.extensions };
  const { directory, entries } = await readDirectory(source, data, refuse);
  const { offset, length } = directory;
  const tables: BitmapTables = { ranges: [{ offset, length, what: 'the bitmap directory' }], pieces: [] };
  for (const entry of entries) {
    const place = await readBitmapTable(source, entry, refuse);
    const what = `the table of bitmap "${entry.name}"`;
    tables.ranges.push({ offset: place.tableOffset, length: place.pieces.length * 8, what });
    tables.pieces.push({ name: entry.name, offsets: place.pieces });
  }
  return tables;
}

function countPieces(references: References, pieces: BitmapTables['pieces']): void {
  const { clusterSize } = references.image.geometry;
  for (const { name, offsets } of pieces) {
    const what = (): string => `a piece of bitmap "${name}"`;
    for (const offset of offsets) {
      if (offset === Piece.zeroes || offset === Piece.ones) continue;
      if (references.count(offset, clusterSize, what))
        references.singles.set(offset / clusterSize, Single.bitmapPiece);
    }
  }
}
