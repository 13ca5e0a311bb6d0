import type { RequestDriver } from '../../../src/block/driver.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import { allocate, runAt } from './allocate.ts';
import type { Run } from './allocate.ts';
import { encodeHead, mediaOf } from './boot-sector.ts';
import { encodeFolder } from './directory.ts';
import { FatTable } from './fat-table.ts';
import type { Geometry } from './geometry.ts';
import { SECTOR } from './geometry.ts';
import { OpenFiles } from './open-files.ts';
import type { FolderItem } from './tree.ts';

/** A stretch of the disk that comes from one place. */
interface Piece {
  readonly length: number;
  /** In memory: fills bytes[at, at+length). */
  readonly copy?: (bytes: Buffer, at: number, length: number) => void;
  /** From a file of the host. */
  readonly file?: { readonly path: string; readonly offset: number };
}

/**
 * A folder as a FAT disk. Boot sector and directories are made at open, the FAT when it is read, and what is in files comes from
 * the files: what changes in them later is seen, what is new or longer is not.
 */
export class FolderDisk implements RequestDriver {
  readonly family = 'request';
  readonly readOnly = true;
  readonly limits = limits({});
  readonly size: number;
  readonly filename: string;
  private readonly geometry: Geometry;
  private readonly head: Buffer;
  private readonly fat: FatTable;
  private readonly runs: readonly Run[];
  private readonly root: FolderItem;
  private readonly label: string;
  private readonly mtimeMs: number;
  private readonly files = new OpenFiles();
  /** Directories in bytes, made when they are first read. */
  private readonly directories = new Map<FolderItem, Buffer>();

  constructor(
    root: FolderItem,
    geometry: Geometry,
    about: { folder: string; label: string; serial: number },
  ) {
    this.geometry = geometry;
    this.size = geometry.total * SECTOR;
    this.filename = about.folder;
    this.label = about.label;
    this.root = root;
    this.runs = allocate(root, geometry);
    this.fat = new FatTable(geometry.type, mediaOf(geometry), this.runs);
    this.head = encodeHead(geometry, { ...about, used: this.fat.used });
    this.mtimeMs = Math.max(0, ...root.items.map(({ entry }) => entry?.mtimeMs ?? 0));
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    for (let done = 0; done < length;) {
      const piece = this.pieceAt(offset + done, length - done);
      const { file } = piece;
      if (file === undefined) fillFrom(piece, bytes, at + done);
      else if (
        !this.files.tryRead(file.path, bytes, at + done, { length: piece.length, offset: file.offset })
      )
        return false;
      done += piece.length;
    }
    return true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const piece = this.pieceAt(offset + done, bytes.length - done);
      const { file } = piece;
      if (file === undefined) fillFrom(piece, bytes, done);
      else await this.files.read(file.path, bytes.subarray(done, done + piece.length), file.offset);
      done += piece.length;
    }
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (offset >= this.size) return out.setEof();
    const piece = this.pieceAt(offset, Math.min(max, this.size - offset));
    const isZero = piece.copy === undefined && piece.file === undefined;
    return isZero ? out.setZero(piece.length) : out.setData(undefined, offset, piece.length, false);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.files.close();
    return Promise.resolve();
  }

  private pieceAt(offset: number, max: number): Piece {
    const { geometry, head } = this;
    if (offset < head.length) return inMemory(head, offset, max);
    const fatStart = head.length;
    const fatBytes = geometry.fatLength * SECTOR;
    if (offset < fatStart + 2 * fatBytes) {
      const inFat = (offset - fatStart) % fatBytes;
      const length = Math.min(max, fatBytes - inFat);
      return { length, copy: (bytes, at, count) => this.fat.read(bytes, at, count, inFat) };
    }
    const dataStart = geometry.dataStart * SECTOR;
    if (offset >= dataStart) return this.dataPiece(offset - dataStart, max);
    const rootStart = dataStart - geometry.rootLength * SECTOR;
    return inFolder(this.directory(this.root), offset - rootStart, Math.min(max, dataStart - offset));
  }

  private dataPiece(offset: number, max: number): Piece {
    const unit = this.geometry.sectorsPerCluster * SECTOR;
    const run = runAt(this.runs, Math.floor(offset / unit) + 2);
    if (run === undefined) return { length: max };
    const inRun = offset - (run.first - 2) * unit;
    const length = Math.min(max, (run.end - run.first) * unit - inRun);
    const { content } = run;
    if ('items' in content) return inFolder(this.directory(content), inRun, length);
    if (inRun >= content.size) return { length };
    const file = { path: content.path, offset: inRun };
    return { length: Math.min(length, content.size - inRun), file };
  }

  private directory(folder: FolderItem): Buffer {
    const known = this.directories.get(folder);
    if (known !== undefined) return known;
    const bytes = encodeFolder(folder, this.label, this.mtimeMs);
    this.directories.set(folder, bytes);
    return bytes;
  }
}

function fillFrom({ copy, length }: Piece, bytes: Buffer, at: number): void {
  if (copy === undefined) bytes.fill(0, at, at + length);
  else copy(bytes, at, length);
}

function inMemory(source: Buffer, offset: number, max: number): Piece {
  return {
    length: Math.min(max, source.length - offset),
    copy: (bytes, at, length) => {
      source.copy(bytes, at, offset, offset + length);
    },
  };
}

/** A directory ends before its clusters do: zeroes there. */
function inFolder(directory: Buffer, offset: number, max: number): Piece {
  return offset < directory.length ? inMemory(directory, offset, max) : { length: max };
}
