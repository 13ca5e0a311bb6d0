import type { ImageInfo } from '../../../src/block/driver.ts';
import type { HeaderPair } from './header-pair.ts';
import type { Metadata } from './metadata.ts';
import { parentNames } from './parent-locator.ts';

export type LogState = 'clean' | 'replayed' | 'replayed in memory' | 'unreadable';

/** What `info` shows of an image. */
export function describe(image: { headers: HeaderPair; metadata: Metadata; logState: LogState }): ImageInfo {
  const { metadata, headers, logState } = image;
  const { parent } = metadata;
  const [backingFilename] = parent === undefined ? [] : parentNames(parent);
  return {
    clusterSize: metadata.blockSize,
    dirty: logState === 'replayed in memory' || logState === 'unreadable',
    ...(backingFilename === undefined ? {} : { backingFilename, backingFormat: 'vhdx' }),
    formatSpecific: {
      subformat: metadata.hasParent ? 'differencing' : metadata.leaveAllocated ? 'fixed' : 'dynamic',
      'data-write-guid': headers.current.data_write_guid,
      'file-write-guid': headers.current.file_write_guid,
      ...(metadata.diskId === undefined ? {} : { 'virtual-disk-id': metadata.diskId }),
      'logical-sector-size': metadata.logicalSectorSize,
      ...(metadata.physicalSectorSize === undefined
        ? {}
        : { 'physical-sector-size': metadata.physicalSectorSize }),
      'log-size': headers.current.log_length,
      'log-state': logState,
      ...(parent === undefined
        ? {}
        : { 'parent-linkage': parent.linkages[0], 'parent-locator': Object.fromEntries(parent.entries) }),
    },
  };
}
