/** Opening a host file or device as the common options ask, and all that depends on how it was opened. */
import { BlockError, errnoOf } from '../../../src/block/errors.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import { bool, choice, optional } from '../../../src/block/schema.ts';
import { directIoAlignment } from '../../../src/sys/direct-io.ts';
import type { OpenMode } from '../../../src/sys/file.ts';
import { PositionedIo } from '../../../src/sys/positioned.ts';

export const lockingOption = optional(
  choice(['auto', 'on', 'off'], "Mark the image as in use, and respect others' marks (QEMU's locks)"),
  'auto',
);

export const shareRwOption = optional(
  bool('Let other programs write to the image while it is open here (QEMU share-rw); off locks them out'),
  true,
);

/** What changes when an image is reopened. */
export interface HostHandle {
  readonly io: PositionedIo;
  readonly writable: boolean;
  /** Writing was asked for and is not permitted. */
  readonly refused: boolean;
  readonly noFlush: boolean;
  readonly forceShare: boolean;
  /** Of O_DIRECT; 1 and 1 without it. */
  readonly alignment: Pick<Limits, 'requestAlignment' | 'memoryAlignment'>;
}

/**
 * Opens by `open`, which is called again read-only where writing is not permitted and `auto-read-only` says that this will do.
 * The descriptor belongs to the handle.
 */
export async function openHandle(
  path: string,
  common: CommonOptions,
  open: (mode: OpenMode) => Promise<number>,
): Promise<HostHandle> {
  if (common.forceShare && !common.readOnly) {
    throw new BlockError(
      'EINVAL',
      `Cannot open "${path}": force-share is for reading only, add read-only=on`,
      { path },
    );
  }
  const direct = common.cacheDirect;
  let writable = !common.readOnly;
  const fd = await open({ writable, direct }).catch((error: unknown) => {
    if (!writable || !common.autoReadOnly || !isRefusal(error)) throw error;
    writable = false;
    return open({ writable, direct });
  });
  const found = direct ? directIoAlignment(fd) : { request: 1, memory: 1 };
  return {
    io: new PositionedIo({ fd, path }, direct),
    writable,
    refused: !writable && !common.readOnly,
    noFlush: common.cacheNoFlush,
    forceShare: common.forceShare,
    alignment: { requestAlignment: found.request, memoryAlignment: found.memory },
  };
}

function isRefusal(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error));
}
