import type { Child } from '../../../src/block/child.ts';
import { decodeHeader, encodeField } from './header.ts';
import type { Header, HeaderFieldName } from './header.ts';

/** The header in memory and on disk. Fields that we do not know keep their bytes. */
export class HeaderBlock {
  private readonly file: Child;
  private bytes: Buffer;
  private fieldValues: Header;
  private last: Promise<void> = Promise.resolve();

  constructor(file: Child, bytes: Buffer, fields: Header) {
    this.file = file;
    this.bytes = Buffer.from(bytes.subarray(0, fields.header_length));
    this.fieldValues = fields;
  }

  get fields(): Readonly<Header> {
    return this.fieldValues;
  }

  /** Changes fields in memory and on disk, and flushes. When it rejects, memory is as before and the disk is either. */
  update(changes: Partial<Header>): Promise<void> {
    const run = this.last.then(() => this.write(changes));
    this.last = run.catch(() => {});
    return run;
  }

  /** The same for the whole first cluster: `rest` is what follows the header, up to the end of the cluster. */
  replace(changes: Partial<Header>, rest: Buffer): Promise<void> {
    const run = this.last.then(() => this.write(changes, rest));
    this.last = run.catch(() => {});
    return run;
  }

  /** Another first cluster as a whole, with a header of another version. */
  async rewrite(head: Buffer): Promise<void> {
    await this.last;
    await this.file.write(head, 0);
    await this.file.flush();
    this.fieldValues = decodeHeader(head);
    this.bytes = Buffer.from(head.subarray(0, this.fieldValues.header_length));
  }

  get length(): number {
    return this.bytes.length;
  }

  private async write(changes: Partial<Header>, rest?: Buffer): Promise<void> {
    const next = Buffer.from(this.bytes);
    for (const [name, value] of Object.entries(changes)) encodeField(next, name as HeaderFieldName, value);
    await this.file.write(rest === undefined ? next : Buffer.concat([next, rest]), 0);
    // What a failed flush lost has to be written again by the next update: it must not look as if it was there.
    await this.file.flush();
    next.copy(this.bytes);
    this.fieldValues = { ...this.fieldValues, ...changes };
  }
}
