/**
 * The package fuse-native: libfuse 2.9 in threads of its own, which calls back into this one. Loaded when first used; it is
 * an optional dependency.
 */
import koffi from 'koffi';
import { BlockError } from '../block/errors.ts';
import { withLibfuse } from './libfuse-file.ts';

/** Answers with a result of 0 or more, or minus an errno number; then what the operation gives. */
export type FuseNativeCallback = (result: number, ...values: unknown[]) => void;
/** By the names of libfuse. */
export type FuseNativeOperations = Readonly<Record<string, (...args: never[]) => void>>;

export interface FuseNativeMount {
  /** After it was unmounted by other means: nothing of it keeps the process any more. */
  close(): void;
}

/** Resolves when the kernel has greeted. `options` are those of `-o`, escaped already. */
export async function mountFuseNative(
  mountpoint: string,
  options: string,
  operations: FuseNativeOperations,
): Promise<FuseNativeMount> {
  const Fuse = await loadFuseNative();
  const fuse = new Fuse(mountpoint, operations, { timeout: false });
  // The options that it would make itself lack most of those of libfuse, and follow $DEBUG.
  Object.assign(fuse, { _fuseOptions: () => `-o${options}` });
  await new Promise<void>((resolve, reject) => {
    fuse.mount((error) => {
      if (error === null) resolve();
      else reject(new BlockError('EIO', `Cannot mount "${mountpoint}" by fuse-native: ${error.message}`));
    });
  });
  return {
    close: () => {
      fuse.unmount(() => undefined);
    },
  };
}

async function loadFuseNative() {
  try {
    // Linked against a libfuse that few systems have: its own is found once it is loaded.
    withLibfuse((path) => {
      koffi.load(path, { global: true });
    });
    const { default: Fuse } = await import('fuse-native');
    // Its own way is to detach whatever is mounted at that path by now.
    Fuse.unmount = (_mountpoint, done) => {
      done(null);
    };
    return Fuse;
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
    const text = `Cannot load the npm package "fuse-native": ${why}; npm install it, or leave out --transport`;
    throw new BlockError('ENOTSUP', text, {}, error);
  }
}
