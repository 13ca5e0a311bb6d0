import type { ImageInfo } from '../../../src/block/driver.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import type { Footer } from './footer.ts';
import { DiskType, timeOf, TYPE_NAMES } from './footer.ts';

/** What `info` shows of an image. @param header undefined for a fixed image */
export function describe(
  footer: Footer,
  header: DynamicHeader | undefined,
  parentName: string | undefined,
): ImageInfo {
  const overlay = footer.type === DiskType.differencing && header !== undefined;
  return {
    ...(header === undefined ? {} : { clusterSize: header.block_size }),
    ...(overlay ? { backingFilename: parentName ?? header.parent_name, backingFormat: 'vpc' } : {}),
    formatSpecific: {
      subformat: TYPE_NAMES[footer.type],
      uuid: footer.uuid,
      creator: footer.creator_app,
      'current-size': footer.current_size,
      geometry: `${footer.cylinders}/${footer.heads}/${footer.sectors}`,
      ...(footer.saved_state === 0 ? {} : { 'saved-state': true }),
      ...(overlay
        ? {
            'parent-uuid': header.parent_uuid,
            'parent-name': header.parent_name,
            'parent-timestamp': timeOf(header.parent_timestamp).toISOString(),
          }
        : {}),
    },
  };
}
