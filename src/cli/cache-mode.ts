export type CacheMode = 'writeback' | 'none' | 'writethrough' | 'directsync' | 'unsafe';

/** QEMU's cache modes as what they stand for: options of the node, and whether each write must be stable at once. */
export function cacheOptions(mode: CacheMode): { cache: Record<string, boolean>; writeThrough: boolean } {
  return {
    cache: {
      'cache.direct': mode === 'none' || mode === 'directsync',
      'cache.no-flush': mode === 'unsafe',
    },
    writeThrough: mode === 'writethrough' || mode === 'directsync',
  };
}
