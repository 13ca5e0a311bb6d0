import { BlockError } from '../../src/block/errors.ts';
import type { Inode } from '../inode.ts';
import { ENTRY_OUT_SIZE, putEntryOut } from '../protocol/attributes.ts';
import { LookupIn } from '../protocol/layout.ts';
import type { MountState } from '../state.ts';
import { defineOperation } from '../state.ts';

/** A name in a directory; the kernel counts the answer as one lookup. */
export const lookup = defineOperation({
  kind: 'later',
  async run(state, request) {
    const directory = state.directory(request);
    const name = request.name(LookupIn.name);
    const inode = await directory.lookup(name);
    if (inode === undefined) throw new BlockError('ENOENT', `Cannot find "${name}": no such file`);
    return entry(state, inode);
  },
});

function entry(state: MountState, inode: Inode): Buffer {
  state.inodes.remember(inode);
  const bytes = Buffer.alloc(ENTRY_OUT_SIZE);
  const { validity } = inode;
  putEntryOut(bytes, 0, inode.attributes(), { entry: validity, attributes: validity });
  return bytes;
}
