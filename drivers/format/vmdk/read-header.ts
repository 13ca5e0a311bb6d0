import type { Child } from '../../../src/block/child.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { COWD_HEADER_SIZE, cowdGeometry, isCowd } from './cowd-header.ts';
import type { SparseGeometry } from './geometry.ts';
import { SECTOR } from './layout.ts';
import { checkVolatileHeader, isSeSparse, seSparseGeometry, volatileSector } from './sesparse-header.ts';
import { GD_AT_END, isSparse, parseSparseHeader, sparseGeometry, SPARSE_MAGIC } from './sparse-header.ts';
import type { SparseHeader } from './sparse-header.ts';

/** The first bytes of a file, as many as any of the headers has. */
export async function readHead(file: Child): Promise<Buffer> {
  return readAt(file, 0, Math.min(COWD_HEADER_SIZE, file.size));
}

export async function readAt(file: Child, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await file.read(bytes, offset);
  return bytes;
}

export const hasTables = (head: Buffer): boolean => isSparse(head) || isCowd(head) || isSeSparse(head);

/** The tables of a sparse extent of any kind, from the head of its file. */
export async function readGeometry(file: Child, head: Buffer, subject: string): Promise<SparseGeometry> {
  if (isCowd(head)) return cowdGeometry(head, file.size, subject);
  if (isSeSparse(head)) {
    const sector = volatileSector(head, subject);
    checkVolatileHeader(await readAt(file, sector * SECTOR, SECTOR), subject);
    return seSparseGeometry(head, file.size, subject);
  }
  return sparseGeometry(await readSparseHeader(file, head, subject), file.size, subject);
}

/** The header, with the place of the grain directory taken from the footer where the header sends there. */
async function readSparseHeader(file: Child, head: Buffer, subject: string): Promise<SparseHeader> {
  const header = parseSparseHeader(head, subject);
  if (header.gdOffset !== GD_AT_END) return header;
  const at = file.size - 2 * SECTOR;
  const bytes = at >= SECTOR ? await readAt(file, at, SECTOR) : Buffer.alloc(SECTOR);
  if (bytes.readUInt32LE(0) !== SPARSE_MAGIC) {
    refuseImage(
      subject,
      `there is no footer at byte ${at}`,
      'the header says that there must be one (the file was cut off)',
    );
  }
  const footer = parseSparseHeader(bytes, subject);
  if (footer.gdOffset === GD_AT_END)
    refuseImage(subject, 'gdOffset is -1 in the footer too', 'must be a sector');
  if (footer.capacity !== header.capacity || footer.grainSize !== header.grainSize) {
    const is = `the footer has capacity ${footer.capacity} and grainSize ${footer.grainSize}`;
    refuseImage(subject, is, `must be ${header.capacity} and ${header.grainSize} as in the header`);
  }
  return footer;
}
