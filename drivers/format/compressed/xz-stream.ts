import type { Child } from '../../../src/block/child.ts';
import type { UnpackService, XzBlockSteps, XzStep } from '../../../src/util/unpack-service.ts';
import type { PlainStream } from './cursors.ts';
import { readPacked } from './image.ts';
import type { Segment } from './segments.ts';

/** More than any step needs: a chunk of LZMA2 is a quarter of it. */
const READ = 256 * 1024;
export const DICTIONARY_MAX = 64 * 1024 * 1024;

/** Unpacks one block of an xz file, one step ahead of whoever reads it. */
export class XzStream implements PlainStream {
  private readonly file: Child;
  private readonly block: XzBlockSteps;
  /** Where the next step goes on in the file. */
  private at: number;
  private ended = false;
  private closed = false;
  private ahead: Promise<XzStep> | undefined = undefined;

  constructor(file: Child, segment: Segment, setup: { check: number; unpacker: UnpackService }) {
    this.file = file;
    this.at = segment.offset;
    const { check, unpacker } = setup;
    this.block = unpacker.openXzBlock({ size: segment.length, check, dictionaryMax: DICTIONARY_MAX });
  }

  async next(): Promise<Buffer | undefined> {
    while (!this.ended) {
      const { plain, ended } = await (this.ahead ?? this.step());
      this.ended = ended;
      this.ahead = ended || this.closed ? undefined : this.step();
      // It is told to whoever asks for it.
      this.ahead?.catch(() => {});
      if (plain.length > 0) return plain;
    }
    return undefined;
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.ahead?.catch(() => {});
    this.block.close();
  }

  private async step(): Promise<XzStep> {
    const input = await readPacked(this.file, this.at, READ);
    const step = await this.block.step(input);
    if (step.used === 0) throw new RangeError('the file ends too early');
    this.at += step.used;
    return step;
  }
}
