import type { ImageInfo } from '../../../src/block/driver.ts';
import { NIL_GUID } from '../../../src/util/guid.ts';
import { TYPE_NAMES } from './header.ts';
import type { VdiHeader } from './header.ts';

/** What `info` shows of an image. @param allocated places in use, where that is known better than the header */
export function describe(header: VdiHeader, allocated: number | undefined): ImageInfo {
  const parent =
    header.uuid_link === NIL_GUID
      ? {}
      : { 'parent-uuid': header.uuid_link, 'parent-modification-uuid': header.uuid_parent_modification };
  return {
    clusterSize: header.block_size,
    formatSpecific: {
      'image-type': TYPE_NAMES[header.image_type],
      uuid: header.uuid_image,
      'modification-uuid': header.uuid_modification,
      ...parent,
      'blocks-in-image': header.blocks_in_image,
      'blocks-allocated': allocated ?? header.blocks_allocated,
      'offset-data': header.offset_data,
    },
  };
}
