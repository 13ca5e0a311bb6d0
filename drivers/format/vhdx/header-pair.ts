/**
 * The two headers of a file. The one that is not current is overwritten, flushed, and becomes current; then the other,
 * so that both say the same and either may be lost. [MS-VHDX] 2.2.2.1
 */
import { randomUUID } from 'node:crypto';
import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { NIL_GUID } from '../../../src/util/guid.ts';
import { decodeHeader, encodeHeader, HEADER_LENGTH, HEADER_PLACES, MIB } from './header.ts';
import type { VhdxHeader } from './header.ts';

export class HeaderPair {
  current: VhdxHeader;
  private readonly file: Child;
  private index: number;

  constructor(file: Child, current: VhdxHeader, index: number) {
    this.file = file;
    this.current = current;
    this.index = index;
  }

  /** Before the first change of a session: the file is being written to and its content changes. */
  async beginWriting(): Promise<void> {
    await this.update({ file_write_guid: randomUUID(), data_write_guid: randomUUID() });
  }

  /** Both headers, each flushed before the other is touched. */
  async update(change: Partial<VhdxHeader>): Promise<void> {
    for (let round = 0; round < HEADER_PLACES.length; round += 1) await this.writeOther(change);
  }

  private async writeOther(change: Partial<VhdxHeader>): Promise<void> {
    const other = 1 - this.index;
    const next = { ...this.current, ...change, sequence_number: this.current.sequence_number + 1n };
    await this.file.write(encodeHeader(next), HEADER_PLACES[other] ?? HEADER_PLACES[0]);
    await this.file.flush();
    this.current = next;
    this.index = other;
  }
}

/** Reads both headers and takes the current one. */
export async function readHeaders(file: Child, subject: string): Promise<HeaderPair> {
  const found: { header: VhdxHeader; index: number }[] = [];
  const wrong: string[] = [];
  for (const [index, place] of HEADER_PLACES.entries()) {
    const bytes = Buffer.alloc(HEADER_LENGTH);
    await file.read(bytes, place);
    const header = decodeHeader(bytes);
    if (typeof header === 'string') wrong.push(`header ${index + 1}: ${header}`);
    else found.push({ header, index });
  }
  const [first, second] = found.sort((one, other) =>
    other.header.sequence_number > one.header.sequence_number ? 1 : -1,
  );
  if (first === undefined) refuseImage(subject, 'neither header is valid', wrong.join('; '));
  if (second !== undefined && second.header.sequence_number === first.header.sequence_number) {
    const same = encodeHeader(first.header).equals(encodeHeader(second.header));
    if (!same)
      refuseImage(
        subject,
        `both headers have sequence number ${first.header.sequence_number}`,
        'must be equal then',
      );
  }
  checkLogPlace(first.header, file.size, subject);
  return new HeaderPair(file, first.header, first.index);
}

function checkLogPlace(header: VhdxHeader, fileSize: number, subject: string): void {
  const { log_length: length, log_offset: offset, log_version: version } = header;
  if (length % MIB !== 0) refuseImage(subject, `log length is ${length}`, 'must be a multiple of 1 MiB');
  if (!(offset >= MIB) || offset % MIB !== 0)
    refuseImage(subject, `log offset is ${offset}`, 'must be a multiple of 1 MiB, at least 1 MiB');
  if (header.log_guid === NIL_GUID) return;
  if (version !== 0) refuseImage(subject, `log version is ${version}`, 'must be 0', 'ENOTSUP');
  if (offset + length > fileSize)
    refuseImage(
      subject,
      `the log ends at ${offset + length}`,
      `must be inside the file of ${fileSize} bytes`,
    );
}
