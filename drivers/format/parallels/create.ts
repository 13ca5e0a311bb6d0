import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { optional, size } from '../../../src/block/schema.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { encodeHeader, HEADER_LENGTH, InUse, MAGIC_V2, SECTOR } from './header.ts';

const HEADS = 16;
const SECTORS_PER_TRACK = 32;
const BAT_MAX = 64 * 1024 * 1024;

export const CREATE_OPTIONS = {
  cluster_size: optional(size('Bytes of a cluster, a multiple of 512'), 1024 * 1024),
};

interface Plan {
  readonly header: Buffer;
  /** Bytes of header and BAT: where clusters begin, on the grid of the file. */
  readonly dataOffset: number;
}

/** Writes the header and an empty BAT. */
export async function createParallels(
  context: CreateContext<Readonly<Record<string, unknown>>>,
): Promise<void> {
  const { file } = context;
  const { header, dataOffset } = planOf(context);
  await file.resize(dataOffset);
  await file.write(header, 0);
  await file.flush();
}

/** Contract: Driver.checkCreate. */
export async function checkNewParallels(context: NewImageContext): Promise<void> {
  planOf(context);
}

function planOf({ size: bytes, subject, options }: NewImageContext): Plan {
  const cluster = Number(options['cluster_size'] ?? 1024 * 1024);
  const refuse = (is: string, wanted: string): never => {
    throw new BlockError('EINVAL', `Cannot create "${subject}": ${is}, ${wanted}`);
  };
  if (cluster < SECTOR || cluster % SECTOR !== 0 || cluster > 2 ** 30) {
    refuse(`cluster_size is ${cluster}`, 'must be a multiple of 512 up to 1G');
  }
  const entries = Math.ceil(bytes / cluster);
  if (bytes % SECTOR !== 0 || entries * 4 > BAT_MAX) {
    refuse(`size is ${bytes}`, `must be a multiple of 512 up to ${(BAT_MAX / 4) * cluster}`);
  }
  const dataOffset = alignUp(HEADER_LENGTH + entries * 4, cluster);
  const sectors = bytes / SECTOR;
  const header = encodeHeader({
    magic: MAGIC_V2,
    version: 2,
    heads: HEADS,
    cylinders: Math.min(2 ** 32 - 1, Math.floor(sectors / HEADS / SECTORS_PER_TRACK)),
    tracks: cluster / SECTOR,
    nb_bat_entries: entries,
    nb_sectors: sectors,
    in_use: InUse.closedPlain,
    data_off: dataOffset / SECTOR,
    flags: 0,
    ext_off: 0,
  });
  return { header, dataOffset };
}
