import type { ImageInfo } from '../../../src/block/driver.ts';
import type { ContentId } from './content-id.ts';
import type { DiskExtent } from './disk-extent.ts';

/** What is known of an image beside its extents. */
export interface ImageFacts {
  readonly createType: string;
  readonly contentId: ContentId | undefined;
  readonly cid: number;
  readonly parentCid: number;
  readonly parentFileNameHint: string | undefined;
}

/** QEMU's keys. */
export function describe(facts: ImageFacts, extents: readonly DiskExtent[]): ImageInfo {
  const sizes = new Set(extents.map(({ description }) => description.clusterSize));
  const [size] = sizes;
  return {
    ...(sizes.size === 1 && size !== undefined ? { clusterSize: size } : {}),
    ...(extents.some(({ description }) => description.compressed === true) ? { compressed: true } : {}),
    ...(facts.parentFileNameHint === undefined
      ? {}
      : { backingFilename: facts.parentFileNameHint, backingFormat: 'vmdk' }),
    formatSpecific: {
      cid: facts.contentId?.value ?? facts.cid,
      'parent-cid': facts.parentCid,
      'create-type': facts.createType,
      extents: extents.map(({ length, description }) => ({
        'virtual-size': length,
        filename: description.filename,
        ...(description.clusterSize === undefined ? {} : { 'cluster-size': description.clusterSize }),
        ...(description.compressed === true ? { compressed: true } : {}),
        format: description.format,
      })),
    },
  };
}
