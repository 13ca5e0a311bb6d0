import type { Inode } from '../inode.ts';
import { DirectoryListing } from '../protocol/directory.ts';
import { ReadIn } from '../protocol/layout.ts';
import type { RequestView } from '../protocol/request.ts';
import type { MountState } from '../state.ts';
import { defineOperation } from '../state.ts';
import type { DirectoryItem } from '../tree.ts';

export const readdir = defineOperation({
  kind: 'now',
  run: (state, request) => list(state, request, (listing, item, next) => listing.add(entryOf(item), next)),
});

/** With attributes: each entry that is given out counts as a lookup. */
export const readdirplus = defineOperation({
  kind: 'now',
  run: (state, request) =>
    list(state, request, (listing, item, next) => {
      const isLink = item.name === '.' || item.name === '..';
      const added = listing.addPlus(entryOf(item), next, isLink ? undefined : detailsOf(item.inode));
      if (added && !isLink) state.inodes.remember(item.inode);
      return added;
    }),
});

type Add = (listing: DirectoryListing, item: DirectoryItem, next: number) => boolean;

/** An entry's offset is its place in the list that OPENDIR took. */
function list(state: MountState, request: RequestView, add: Add): Buffer {
  const { items = [] } = state.handles.get(request.u64(ReadIn.fh));
  const start = request.u64(ReadIn.offset);
  const listing = new DirectoryListing(request.u32(ReadIn.size));
  for (const [index, item] of items.slice(start).entries()) {
    if (!add(listing, item, start + index + 1)) break;
  }
  return listing.finish();
}

const entryOf = ({ name, inode }: DirectoryItem) => {
  const { ino, mode } = inode.attributes();
  return { name, ino, type: mode };
};

const detailsOf = (inode: Inode) => ({
  attributes: inode.attributes(),
  validity: { entry: inode.validity, attributes: inode.validity },
});
