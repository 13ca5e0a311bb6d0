import { alignUp } from '../../../src/util/sizes.ts';
import type { SparseGeometry } from './geometry.ts';
import { MAX_ENTRY } from './geometry.ts';
import type { GrainSpace } from './grain-space.ts';
import type { GrainTables } from './grain-tables.ts';
import type { Need } from './need.ts';
import type { GrainTable, TableCache } from './table-cache.ts';
import type { WriteBack } from './write-back.ts';
import { noRoom } from './write-gate.ts';

export interface NewTableParts {
  readonly filename: string;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
  readonly cache: TableCache;
  readonly need: Need;
  readonly space: GrainSpace;
  readonly writeBack: WriteBack;
}

/**
 * A table where the directory has none, saying of every grain what the directory said of all. The directory in
 * memory names it at once, the one on disk after it is there itself. Undefined with the need noted.
 */
export function makeTable(parts: NewTableParts, index: number): GrainTable | undefined {
  const { tables, geometry, space, need, cache, writeBack } = parts;
  const { tableSize, tablePlace } = geometry;
  const copies = tables.redundant === undefined ? 1 : 2;
  const place = space.tryTakeFresh(alignUp(tableSize * copies, space.unit));
  if (place < 0) {
    need.want(() => space.load());
    return undefined;
  }
  if ((place + tableSize * copies) / tablePlace.scale > MAX_ENTRY) throw noRoom(parts.filename);
  const table = tables.add(index, tables.directory[index] ?? 0);
  tables.directory[index] = place / tablePlace.scale;
  if (tables.redundant !== undefined) tables.redundant[index] = (place + tableSize) / tablePlace.scale;
  writeBack.directoryChanged(index);
  cache.changed(table);
  writeBack.changed(table);
  return table;
}
