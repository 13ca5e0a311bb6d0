import { helperUnmount } from '../../sys/fuse-helper.ts';
import { unmountFileSystem } from '../../sys/fuse-device.ts';

/** Unmounts what another process serves: the system call as root, fusermount3 for others. */
export function detachMount(path: string, lazy: boolean): Promise<void> {
  return process.getuid?.() === 0 ? unmountFileSystem(path, lazy) : helperUnmount(path, lazy);
}
