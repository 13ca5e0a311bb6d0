import { refuseImage } from '../../../src/block/refuse.ts';
import type { SparseGeometry } from './geometry.ts';
import { FIRST_PLACE } from './geometry.ts';
import { placeOf } from './grain-tables.ts';

export interface PlacesToCheck {
  readonly geometry: SparseGeometry;
  readonly directory: Uint32Array;
  readonly redundant: Uint32Array | undefined;
  /** Bytes. */
  readonly fileSize: number;
  readonly filename: string;
}

/**
 * Before an extent is written: every table lies inside the file, behind the header, apart from all others and from the
 * directories, and has its redundant twin. Writing a table can then harm nothing but itself.
 */
export function checkTablePlaces(checked: PlacesToCheck): void {
  const { geometry, directory, redundant, filename } = checked;
  const refuse = (is: string, wanted: string): never =>
    refuseImage(filename, is, `${wanted}; it can be opened with read-only=on`);
  const places = new Float64Array(directory.length * (redundant === undefined ? 1 : 2));
  let count = 0;
  for (let index = 0; index < directory.length; index += 1) {
    const entry = directory[index] ?? 0;
    const twin = redundant?.[index];
    const hole = isHole(geometry, entry);
    if (!hole) places[count++] = tablePlace(checked, entry, `entry ${index} of the grain directory`);
    if (twin === undefined) continue;
    if (hole !== isHole(geometry, twin)) {
      refuse(
        `entry ${index} is ${entry} in the grain directory and ${twin} in the redundant one`,
        'both must have a table',
      );
    }
    if (!hole) places[count++] = tablePlace(checked, twin, `entry ${index} of the redundant grain directory`);
  }
  checkApart(places.subarray(0, count).sort(), geometry, refuse);
}

function tablePlace(checked: PlacesToCheck, entry: number, what: string): number {
  const { geometry, fileSize, filename } = checked;
  const place = placeOf(geometry.tablePlace, entry);
  if (entry >= FIRST_PLACE && place >= geometry.reserved && place + geometry.tableSize <= fileSize)
    return place;
  const wanted = `its table must lie from byte ${geometry.reserved} to ${fileSize}; it can be opened with read-only=on`;
  return refuseImage(filename, `${what} is ${entry}`, wanted);
}

function checkApart(
  places: Float64Array,
  geometry: SparseGeometry,
  refuse: (is: string, wanted: string) => never,
): void {
  const { tableSize, directoryEntries, directoryOffset, redundantOffset } = geometry;
  for (let index = 1; index < places.length; index += 1) {
    const place = places[index] ?? 0;
    if (place - (places[index - 1] ?? 0) < tableSize) {
      refuse(`two grain tables overlap at byte ${place}`, 'must be apart');
    }
  }
  for (const start of [directoryOffset, redundantOffset ?? directoryOffset]) {
    const end = start + directoryEntries * 4;
    const inside = places.find((place) => place < end && start < place + tableSize);
    if (inside !== undefined)
      refuse(`a grain table is at byte ${inside}, in a grain directory`, 'must be apart');
  }
}

const isHole = (geometry: SparseGeometry, entry: number): boolean =>
  entry === 0 || (entry === 1 && geometry.zeroedGrains);
