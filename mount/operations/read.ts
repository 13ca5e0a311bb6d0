import type { BlockFile } from '../block-file.ts';
import type { RootChild } from '../export.ts';
import type { IoBuffer } from '../io-buffer.ts';
import { ReadIn, Word } from '../protocol/layout.ts';
import { defineOperation } from '../state.ts';

const WORD = 2 ** 32;

/**
 * A READ of a disk, answered into the buffer that the request lies in (its fields stay intact). The bytes read, fewer at the
 * end of the disk; -1 when it would have to wait. Allocates nothing.
 */
export function tryRead(file: BlockFile, io: IoBuffer): number {
  const target = file.export;
  if (target.isDrained) return -1;
  const { words } = io;
  const at = io.requestWord;
  const offset = (words[at + Word.offsetHigh] ?? 0) * WORD + (words[at + Word.offsetLow] ?? 0);
  const { root, counters } = target;
  const length = lengthInside(target.size, offset, words[at + Word.size] ?? 0);
  if (length > 0 && !root.tryRead(io.bytes, io.data, length, offset)) return -1;
  counters.reads += 1;
  counters.bytesRead += length;
  return length;
}

/** The same, waiting; `buffer` has room for `length`. */
export async function read(
  file: BlockFile,
  root: RootChild,
  buffer: Pick<IoBuffer, 'bytes' | 'data'>,
  range: { offset: number; length: number },
): Promise<number> {
  const length = lengthInside(file.export.size, range.offset, range.length);
  if (length > 0) await root.read(buffer.bytes.subarray(buffer.data, buffer.data + length), range.offset);
  file.export.counters.reads += 1;
  file.export.counters.bytesRead += length;
  return length;
}

function lengthInside(size: number, offset: number, length: number): number {
  const rest = size - offset;
  if (rest >= length) return length;
  return rest > 0 ? rest : 0;
}

/** READ of anything but a disk. */
export const readText = defineOperation({
  kind: 'now',
  run(state, request) {
    const { text = Buffer.alloc(0) } = state.handles.get(request.u64(ReadIn.fh));
    const offset = request.u64(ReadIn.offset);
    return text.subarray(offset, offset + request.u32(ReadIn.size));
  },
});
