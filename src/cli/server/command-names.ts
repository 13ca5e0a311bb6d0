/** Commands of the control socket that QEMU does not have, for both of its ends. */
export const SNAPSHOT_LIST = 'x-blockfuse-snapshot-list';
export const SNAPSHOT_APPLY = 'x-blockfuse-snapshot-apply';
export const STATS = 'x-blockfuse-stats';
export const BITMAP_LIST = 'x-blockfuse-bitmap-list';
export const BITMAP_ADD_SINCE = 'x-blockfuse-bitmap-add-since';
export const BITMAP_SHOW = 'x-blockfuse-bitmap-show';
