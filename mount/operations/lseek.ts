import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import type { RootChild } from '../export.ts';
import { putU64 } from '../protocol/attributes.ts';
import { SeekWhence } from '../protocol/constants.ts';
import { LseekIn } from '../protocol/layout.ts';
import { defineOperation } from '../state.ts';

/** Extents looked at before other requests get their turn. */
const TURN = 256;

/** SEEK_DATA and SEEK_HOLE. What reads as zeroes without being stored is a hole. */
export const lseek = defineOperation({
  kind: 'later',
  async run(state, request, owner) {
    const file = state.disk(request, 'EINVAL');
    const offset = request.u64(LseekIn.offset);
    const whence = request.u32(LseekIn.whence);
    if (whence !== SeekWhence.data && whence !== SeekWhence.hole) {
      throw new BlockError(
        'EINVAL',
        `Cannot seek in ${file.export.label}: whence is ${whence}, must be 3 or 4`,
      );
    }
    const found = await file.export.run(owner, (root) =>
      seek(root, { from: offset, end: file.export.size }, whence === SeekWhence.data),
    );
    const bytes = Buffer.alloc(8);
    putU64(bytes, 0, found);
    return bytes;
  },
});

async function seek(
  root: RootChild,
  range: { from: number; end: number },
  forData: boolean,
): Promise<number> {
  const { from, end } = range;
  const status = new BlockStatus();
  let offset = from;
  for (let turn = 1; offset < end; turn += 1) {
    await root.status(offset, end - offset, status);
    if (status.length <= 0) break;
    if ((status.data && !status.zero) === forData) return offset;
    offset += status.length;
    if (turn % TURN === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  // The end of a file is a hole; no data after `from` is ENXIO.
  if (!forData && from < end) return end;
  throw new BlockError('ENXIO', `Cannot seek: nothing of the kind lies after ${from}`);
}
