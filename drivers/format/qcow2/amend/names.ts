/** Names of other files in the header, changed in one write of the first cluster. */
import { alignUp } from '../../../../src/util/sizes.ts';
import type { DiskParts } from '../disk.ts';
import { ExtensionType } from '../extensions.ts';
import type { HeaderExtension } from '../extensions.ts';
import { firstCluster } from './first-cluster.ts';
import { V3_LENGTH_WRITTEN } from './upgrade.ts';
import type { Refuse, Wanted } from './wanted.ts';

export interface Names {
  readonly extensions: readonly HeaderExtension[];
  /** Of the backing file; none when empty, the one that is there when undefined. */
  readonly backing: string | undefined;
}

const NAME_MAX = 1023;

/** Undefined: no name changes. */
export function planNames({ image, area }: DiskParts, wanted: Wanted, refuse: Refuse): Names | undefined {
  const { backing, backingFormat, dataFile } = wanted;
  if (backing === undefined && backingFormat === undefined && dataFile === undefined) return undefined;
  const length = Buffer.byteLength(backing ?? '');
  if (length > NAME_MAX) refuse(`the backing file name has ${length} bytes, must have at most ${NAME_MAX}`);
  const hasBacking =
    backing === undefined ? image.header.fields.backing_file_offset !== 0 : backing.length > 0;
  if (hasBacking && image.rawData && wanted.dataFileRaw !== false)
    refuse('a raw data file and a backing file exclude each other');
  if (!hasBacking && backingFormat !== undefined && backingFormat !== '')
    refuse('backing_fmt needs a backing file');
  let extensions = area.list;
  const put = (type: number, value: string): void => {
    const others = extensions.filter((each) => each.type !== type);
    extensions = value === '' ? others : [{ type, data: Buffer.from(value) }, ...others];
  };
  if (!hasBacking) put(ExtensionType.backingFormat, '');
  if (backingFormat !== undefined) put(ExtensionType.backingFormat, backingFormat);
  if (dataFile !== undefined) put(ExtensionType.dataFile, dataFile);
  return { extensions, backing };
}

/** In version 3; in version 2 there is more room. */
export function refuseLongHeader({ image, area }: DiskParts, names: Names | undefined, refuse: Refuse): void {
  const { header, geometry } = image;
  const { extensions = area.list, backing } = names ?? {};
  const start = header.fields.version < 3 ? V3_LENGTH_WRITTEN : header.length;
  const name = backing === undefined ? header.fields.backing_file_size : Buffer.byteLength(backing);
  const end = extensions.reduce((at, { data }) => at + 8 + alignUp(data.length, 8), start + 8) + name;
  if (end > geometry.clusterSize)
    refuse(`header and names would take ${end} bytes, the first cluster has ${geometry.clusterSize}`);
}

/** What is open below stays open. */
export async function writeNames({ image, area }: DiskParts, { extensions, backing }: Names): Promise<void> {
  const name = backing === undefined ? undefined : Buffer.from(backing);
  await image.prepareTables();
  await image.header.rewrite(await firstCluster(image, image.header.length, extensions, name));
  area.list = extensions;
}
