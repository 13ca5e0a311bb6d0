import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { checkNewParallels, createParallels, CREATE_OPTIONS } from './create.ts';
import { NO_GUID, TOP_GUID } from './descriptor.ts';
import { SECTOR } from './header.ts';

export { CREATE_OPTIONS };

/** Contract: Driver.checkCreate. */
export async function checkNewFolder(context: NewImageContext): Promise<void> {
  const { isAlone, subject } = context;
  if (isAlone !== true) return checkNewParallels(context);
  const what = 'it is a descriptor and an image beside it, but no further file can be made here';
  throw new BlockError('EINVAL', `Cannot create image "${subject}": ${what}`);
}

/** Writes a descriptor with one storage, and its empty image beside it. */
export async function createFolder(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file, size, subject, options } = context;
  const folder = subject.split('/').at(-2) ?? '';
  const image = `${folder.endsWith('.hdd') ? folder : 'disk.hdd'}.0.${TOP_GUID}.hds`;
  await createParallels({ ...context, file: await context.createFile(image) });
  const cluster = Number(options['cluster_size'] ?? CLUSTER) / SECTOR;
  await file.write(Buffer.from(describe(size / SECTOR, cluster, image)), 0);
  await file.flush();
}

const CLUSTER = 1024 * 1024;

/** Heads, sectors and cylinders must give the size exactly. */
function geometry(sectors: number): { heads: number; perTrack: number; cylinders: number } {
  if (sectors % 512 === 0) return { heads: 16, perTrack: 32, cylinders: sectors / 512 };
  return { heads: 1, perTrack: 1, cylinders: sectors };
}

function describe(sectors: number, cluster: number, image: string): string {
  const { heads, perTrack, cylinders } = geometry(sectors);
  return `<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
    <Disk_Parameters>
        <Disk_size>${sectors}</Disk_size>
        <Cylinders>${cylinders}</Cylinders>
        <Heads>${heads}</Heads>
        <Sectors>${perTrack}</Sectors>
        <Padding>0</Padding>
    </Disk_Parameters>
    <StorageData>
        <Storage>
            <Start>0</Start>
            <End>${sectors}</End>
            <Blocksize>${cluster}</Blocksize>
            <Image>
                <GUID>${TOP_GUID}</GUID>
                <Type>Compressed</Type>
                <File>${image}</File>
            </Image>
        </Storage>
    </StorageData>
    <Snapshots>
        <Shot>
            <GUID>${TOP_GUID}</GUID>
            <ParentGUID>${NO_GUID}</ParentGUID>
        </Shot>
    </Snapshots>
</Parallels_disk_image>
`;
}
