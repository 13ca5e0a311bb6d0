import type { Child } from '../../../src/block/child.ts';
import { COWD_HEADER } from './cowd-header.ts';
import { SECTOR } from './layout.ts';

/** COWD says in its header which sector of the file is the first that was never given out: on disk before its use. */
export class EndMark {
  private readonly file: Child;
  private written: number;

  constructor(file: Child, freeSector: number) {
    this.file = file;
    this.written = freeSector;
  }

  /** Everything up to the end of the file counts as given out. The caller flushes. */
  async write(): Promise<void> {
    const sector = Math.ceil(this.file.size / SECTOR);
    if (sector === this.written) return;
    const bytes = Buffer.alloc(COWD_HEADER.freeSector.width);
    bytes.writeUInt32LE(sector);
    await this.file.write(bytes, COWD_HEADER.freeSector.at);
    this.written = sector;
  }
}
