import { hexadecimal } from './content-id.ts';
import type { ExtentLine } from './extent-line.ts';

export interface NewDescriptor {
  readonly cid: number;
  readonly parentCid: number;
  readonly parentFileNameHint: string | undefined;
  readonly createType: string;
  readonly extents: readonly Pick<ExtentLine, 'sectors' | 'type' | 'filename'>[];
  /** Sectors of the disk. */
  readonly sectors: number;
  readonly adapterType: string;
  readonly hardwareVersion: string;
  readonly toolsVersion: string;
}

const IDE_CYLINDERS = 16383;

/** Virtual Disk Format 5.0, "The Disk DescriptorFile". */
export function descriptorText(disk: NewDescriptor): string {
  const heads = disk.adapterType === 'ide' ? 16 : 255;
  const cylinders = Math.floor(disk.sectors / (heads * 63));
  const hint = disk.parentFileNameHint;
  return [
    '# Disk DescriptorFile',
    'version=1',
    'encoding="UTF-8"',
    `CID=${hexadecimal(disk.cid, 8)}`,
    `parentCID=${hexadecimal(disk.parentCid, 8)}`,
    `createType="${disk.createType}"`,
    ...(hint === undefined ? [] : [`parentFileNameHint="${hint}"`]),
    '',
    '# Extent description',
    ...disk.extents.map(extentText),
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    `ddb.virtualHWVersion = "${disk.hardwareVersion}"`,
    `ddb.geometry.cylinders = "${disk.adapterType === 'ide' ? Math.min(cylinders, IDE_CYLINDERS) : cylinders}"`,
    `ddb.geometry.heads = "${heads}"`,
    'ddb.geometry.sectors = "63"',
    `ddb.adapterType = "${disk.adapterType}"`,
    `ddb.toolsVersion = "${disk.toolsVersion}"`,
    '',
  ].join('\n');
}

function extentText(extent: NewDescriptor['extents'][number]): string {
  const offset = extent.type === 'FLAT' ? ' 0' : '';
  return `RW ${extent.sectors} ${extent.type} "${extent.filename ?? ''}"${offset}`;
}
