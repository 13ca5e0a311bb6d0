import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { NIL_GUID } from '../../../src/util/guid.ts';
import { shapeOf } from './bat.ts';
import { FILE_SIGNATURE, MIB, REGION_PLACES } from './header.ts';
import { readHeaders } from './header-pair.ts';
import type { HeaderPair } from './header-pair.ts';
import { VhdxImage } from './image.ts';
import { SparseVhdxImage } from './sparse-image.ts';
import type { VhdxParts } from './parts.ts';
import type { LogState } from './info.ts';
import { findReplay } from './log-replay.ts';
import type { Replay } from './log-replay.ts';
import { readMetadata } from './metadata.ts';
import { ReplayedFile } from './overlay.ts';
import { openParent } from './parent.ts';
import { checkRegions, decodeRegionTable, REGION_TABLE_LENGTH } from './regions.ts';
import type { Regions } from './regions.ts';
import { endForWriting } from './writable.ts';

/** A log is read whole to be replayed: bounded. */
const LOG_MAX = 64 * MIB;

export async function open(context: OpenContext<unknown>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  await checkSignature(file, subject);
  const headers = await readHeaders(file, subject);
  const { overlay, logState } = await settleLog(context, file, headers);
  const regions = await readRegions(overlay, headers, subject);
  const metadata = await readMetadata(
    async (at, length) => readBytes(overlay, regions.metadata.offset + at, length),
    regions.metadata.length,
    subject,
  );
  const shape = shapeOf(metadata);
  if (shape.entries * 8 > regions.bat.length) {
    refuseImage(
      subject,
      `the block allocation table has ${regions.bat.length} bytes`,
      `must have at least ${shape.entries * 8}`,
    );
  }
  if (metadata.parent !== undefined) await openParent(context, metadata.parent);
  const parts: VhdxParts = { file, overlay, headers, regions, metadata, subject, logState };
  const image =
    metadata.leaveAllocated && !metadata.hasParent ? new VhdxImage(parts) : new SparseVhdxImage(parts);
  if (!common.readOnly) image.allowWriting(await endForWriting(image));
  return image;
}

async function checkSignature(file: Child, subject: string): Promise<void> {
  const signature = (await readBytes(file, 0, 8)).toString('latin1');
  if (signature !== FILE_SIGNATURE)
    refuseImage(subject, `signature is ${JSON.stringify(signature)}`, `must be "${FILE_SIGNATURE}"`);
}

interface Reader {
  readonly size: number;
  read(bytes: Buffer, offset: number): Promise<void>;
}

async function readBytes(from: Reader, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await from.read(bytes, offset);
  return bytes;
}

async function readRegions(overlay: ReplayedFile, headers: HeaderPair, subject: string): Promise<Regions> {
  const wrong: string[] = [];
  const { log_offset: offset, log_length: length } = headers.current;
  for (const [index, place] of REGION_PLACES.entries()) {
    const table = decodeRegionTable(await readBytes(overlay, place, REGION_TABLE_LENGTH));
    if (typeof table !== 'string') return checkRegions(table, { offset, length }, overlay.size, subject);
    wrong.push(`region table ${index + 1}: ${table}`);
  }
  return refuseImage(subject, 'neither region table is valid', wrong.join('; '));
}

/** What the log holds comes first: into the file where that may be written, else into an overlay in memory. */
async function settleLog(
  context: OpenContext<unknown>,
  file: Child,
  headers: HeaderPair,
): Promise<{ overlay: ReplayedFile; logState: LogState }> {
  const { subject, common } = context;
  const plain = new ReplayedFile(file, [], 0);
  if (headers.current.log_guid === NIL_GUID) return { overlay: plain, logState: 'clean' };
  const replay = await readReplay(file, headers, subject);
  if (replay === undefined) {
    const is = `the log of {${headers.current.log_guid}} has no valid entry`;
    if (!common.readOnly) refuseImage(subject, is, 'must have one for writing');
    context.warn(`${is}: the image is read as it is`);
    return { overlay: plain, logState: 'unreadable' };
  }
  if (common.readOnly) {
    return {
      overlay: new ReplayedFile(file, replay.changes, replay.lastFileOffset),
      logState: 'replayed in memory',
    };
  }
  await applyReplay(file, headers, replay);
  return { overlay: new ReplayedFile(file, [], 0), logState: 'replayed' };
}

async function readReplay(file: Child, headers: HeaderPair, subject: string): Promise<Replay | undefined> {
  const { log_offset: offset, log_length: length, log_guid: guid } = headers.current;
  if (length > LOG_MAX)
    refuseImage(subject, `log length is ${length}`, `must be at most ${LOG_MAX} to be replayed`, 'EFBIG');
  const replay = findReplay(await readBytes(file, offset, length), guid);
  if (replay === undefined) return undefined;
  if (!(replay.flushedFileOffset <= file.size)) {
    refuseImage(
      subject,
      `the file has ${file.size} bytes`,
      `must have at least ${replay.flushedFileOffset}, it was cut off`,
    );
  }
  for (const change of replay.changes) {
    const end = change.offset + change.length;
    const limit = Math.max(file.size, replay.lastFileOffset);
    if (!(end <= limit))
      refuseImage(subject, `the log writes up to byte ${end}`, `must stay inside the file of ${limit} bytes`);
  }
  return replay;
}

/** Whole, flushed, and only then forgotten: a crash on the way leaves it to be replayed again. */
async function applyReplay(file: Child, headers: HeaderPair, replay: Replay): Promise<void> {
  await file.growTo(replay.lastFileOffset);
  for (const { offset, length, bytes } of replay.changes) {
    if (bytes === undefined) await file.writeZeroes(offset, length);
    else await file.write(bytes, offset);
  }
  await file.flush();
  await headers.update({ log_guid: NIL_GUID });
}
