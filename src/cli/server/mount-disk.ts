import { BlockError } from '../../block/errors.ts';
import type { ServeRequest } from './messages.ts';
import type { ServedDisk } from './served-disk.ts';

/** Opens the image and mounts it. Rejects with nothing left behind. */
export async function mountDisk(
  request: ServeRequest,
  _warn: (message: string) => void,
): Promise<ServedDisk> {
  throw new BlockError('ENOSYS', `Cannot mount "${request.imageName}": the FUSE side is not there yet`);
}
