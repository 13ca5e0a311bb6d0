import type { Child } from '../../../src/block/child.ts';
import { eachPiece, SurveyPace } from '../../../src/block/table-survey.ts';
import type { Survey, VisitPlace } from '../../../src/block/table-survey.ts';
import type { SparseGeometry } from './geometry.ts';
import { FIRST_PLACE } from './geometry.ts';
import { placeOf } from './grain-tables.ts';
import type { GrainTables } from './grain-tables.ts';

/** Tables that lie one behind the other are read together, so many bytes. */
const TOGETHER = 1024 * 1024;

export interface Surveyed {
  readonly file: Child;
  readonly filename: string;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
}

/** Each grain that the tables on disk name. Only for formats with entries of 32 bits: the others are not written. */
export function surveyGrains({ file, filename, geometry, tables }: Surveyed): Survey {
  const each = (visit: VisitPlace): Promise<void> => eachGrain(tables.directory, file, geometry, visit);
  return { file, subject: filename, each };
}

async function eachGrain(
  directory: Uint32Array,
  file: Child,
  geometry: SparseGeometry,
  visit: VisitPlace,
): Promise<void> {
  const { tableSize, tablePlace } = geometry;
  const most = Math.floor(TOGETHER / tableSize);
  const pace = new SurveyPace();
  for (let index = 0; index < directory.length;) {
    const entry = directory[index] ?? 0;
    index += 1;
    if (entry < FIRST_PLACE) continue;
    const place = placeOf(tablePlace, entry);
    let count = 1;
    for (; count < most && index < directory.length; count += 1, index += 1)
      if (placeOf(tablePlace, directory[index] ?? 0) !== place + count * tableSize) break;
    await eachPiece(file, { offset: place, length: count * tableSize, pace }, (bytes) => {
      for (let at = 0; at < bytes.length; at += tableSize) visitGrains(bytes, at, geometry, visit);
    });
  }
}

function visitGrains(bytes: Buffer, table: number, geometry: SparseGeometry, visit: VisitPlace): void {
  const { tableEntries, grainPlace, grainSize } = geometry;
  for (let slot = 0; slot < tableEntries; slot += 1) {
    const entry = bytes.readUInt32LE(table + slot * 4);
    if (entry >= FIRST_PLACE) visit(placeOf(grainPlace, entry), grainSize);
  }
}
