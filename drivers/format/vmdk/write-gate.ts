import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Need } from './need.ts';
import type { ContentId } from './content-id.ts';

/**
 * Stands before the first change of an open image: until the content ID on disk is a new one, nothing may be written.
 *
 *     closed --(tryPass: false, load)--> the new ID is being written --(flushed)--> open
 *
 * While it is closed no extent answers `writable`, so every write comes through tryAllocate and asks here.
 */
export class WriteGate {
  open = false;
  private readonly need: Need;
  private readonly contentId: ContentId | undefined;
  private readonly file: Child;
  private opening: Promise<void> | undefined = undefined;

  /** @param contentId undefined where the image has none to change */
  constructor(need: Need, file: Child, contentId: ContentId | undefined) {
    this.need = need;
    this.file = file;
    this.contentId = contentId;
  }

  /** True, or false with the need noted. */
  tryPass(): boolean {
    return this.open || this.need.want(() => this.pass());
  }

  private pass(): Promise<void> {
    this.opening ??= this.change().finally(() => {
      this.opening = undefined;
    });
    return this.opening;
  }

  private async change(): Promise<void> {
    if (this.open) return;
    if (this.contentId !== undefined) {
      await this.contentId.renew(this.file);
      await this.file.flush();
    }
    this.open = true;
  }
}

/** A write that must not be: the disk's own tables are in the way. */
export function noRoom(filename: string): BlockError {
  const text = `Cannot write to extent "${filename}": it would grow beyond 2 TiB, the most that its tables can name`;
  return new BlockError('ENOSPC', text);
}
