/**
 * Writes changes of metadata so that each batch reaches the file whole or not at all:
 *
 *     entry -> flush -> (first one: the headers name the log, flush) -> the sectors in their places -> flush
 *
 * An entry names itself as tail: what came before it was applied and flushed. Entries are at most a third of the log, so
 * the one before is still whole while the next is being written.
 */
import { randomUUID } from 'node:crypto';
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { mergeChanges } from '../../../src/block/table-pages.ts';
import type { TableChange } from '../../../src/block/table-pages.ts';
import { NIL_GUID } from '../../../src/util/guid.ts';
import type { HeaderPair } from './header-pair.ts';
import { encodeEntry, entryLength, SECTOR } from './log-entry.ts';

export class LogWriter {
  private readonly file: Child;
  private readonly headers: HeaderPair;
  private readonly sectorsMax: number;
  private position = 0;
  private sequence = 1n;
  private guid: string | undefined = undefined;

  constructor(file: Child, headers: HeaderPair) {
    this.file = file;
    this.headers = headers;
    const third = Math.floor(headers.current.log_length / 3 / SECTOR);
    let sectors = third;
    while (sectors > 0 && entryLength(sectors) > third * SECTOR) sectors -= 1;
    this.sectorsMax = sectors;
  }

  /** Sectors of 4 KiB, applied in this order when they do not fit one entry. What they name is on stable storage. */
  async write(changes: readonly TableChange[]): Promise<void> {
    if (this.sectorsMax === 0) {
      throw new BlockError(
        'EROFS',
        `Cannot write: the log has ${this.headers.current.log_length} bytes, too few for an entry`,
      );
    }
    for (let from = 0; from < changes.length; from += this.sectorsMax) {
      if (from > 0) await this.file.flush();
      await this.writeBatch(changes.slice(from, from + this.sectorsMax));
    }
  }

  /** On close: everything is in place, nothing to replay. */
  async retire(): Promise<void> {
    if (this.guid === undefined) return;
    await this.file.flush();
    await this.headers.update({ log_guid: NIL_GUID });
    this.guid = undefined;
  }

  private async writeBatch(changes: readonly TableChange[]): Promise<void> {
    const { log_offset: log, log_length: logLength } = this.headers.current;
    const guid = this.guid ?? randomUUID();
    if (this.position + entryLength(changes.length) > logLength) this.position = 0;
    const entry = encodeEntry({
      guid,
      sequence: this.sequence,
      tail: this.position,
      fileSize: this.file.size,
      sectors: changes,
    });
    await this.file.write(entry, log + this.position);
    await this.file.flush();
    if (this.guid === undefined) await this.headers.update({ log_guid: guid });
    this.guid = guid;
    this.position += entry.length;
    this.sequence += 1n;
    const sorted = [...changes].sort((one, other) => one.offset - other.offset);
    for (const { offset, bytes } of mergeChanges(sorted)) await this.file.write(bytes, offset);
  }
}
