import { closeNow, openFile } from '../../../src/sys/file.ts';
import { PositionedIo } from '../../../src/sys/positioned.ts';

const MOST_OPEN = 64;

/** Descriptors of the files last read; the one unused for longest is closed when there are too many. */
export class OpenFiles {
  private readonly open = new Map<string, { readonly io: PositionedIo; users: number }>();

  /** Fills the bytes if the file is open and that takes no waiting. */
  tryRead(path: string, bytes: Buffer, at: number, range: { length: number; offset: number }): boolean {
    return this.open.get(path)?.io.tryRead(bytes, at, range.length, range.offset) ?? false;
  }

  /** Past the end of the file: zeroes. */
  async read(path: string, bytes: Buffer, offset: number): Promise<void> {
    const file = await this.get(path);
    file.users += 1;
    try {
      await file.io.read(bytes, offset);
    } finally {
      file.users -= 1;
    }
  }

  close(): void {
    for (const { io } of this.open.values()) closeNow(io.fd);
    this.open.clear();
  }

  private async get(path: string): Promise<{ readonly io: PositionedIo; users: number }> {
    const known = this.open.get(path);
    if (known !== undefined) {
      this.open.delete(path);
      this.open.set(path, known);
      return known;
    }
    const fd = await openFile(path, 'regular', { writable: false, direct: false });
    const other = this.open.get(path);
    if (other !== undefined) {
      closeNow(fd);
      return other;
    }
    const file = { io: new PositionedIo({ fd, path }, false), users: 0 };
    this.open.set(path, file);
    this.closeOldest();
    return file;
  }

  private closeOldest(): void {
    for (const [path, { io, users }] of this.open) {
      if (this.open.size <= MOST_OPEN) return;
      if (users > 0) continue;
      this.open.delete(path);
      closeNow(io.fd);
    }
  }
}
