import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import type { DiskExtent } from './disk-extent.ts';
import { ExtentFiles } from './extent-files.ts';
import type { ExtentLine, ExtentType } from './extent-line.ts';
import { FlatExtent } from './flat-extent.ts';
import { SECTOR } from './layout.ts';
import { openSparse } from './open-sparse.ts';
import { hasTables, readHead } from './read-header.ts';
import type { SharedState } from './shared.ts';
import { ZeroExtent } from './zero-extent.ts';

/** An extent to be opened: a line of the descriptor, and the file where it is the image itself. */
export interface ExtentPlan {
  readonly line: ExtentLine;
  readonly own: Child | undefined;
}

const SPARSE_TYPES: ReadonlySet<ExtentType> = new Set(['SPARSE', 'VMFSSPARSE', 'SESPARSE']);

export interface OpenExtents {
  readonly extents: DiskExtent[];
  /** A file that should be written can only be read. */
  readonly lacksWriting: boolean;
}

/** Opens the extents of a disk in order, each through the gate as the child `extents.N`. */
export async function openExtents(
  context: OpenContext<object>,
  shared: SharedState,
  plans: readonly ExtentPlan[],
): Promise<OpenExtents> {
  const extents: DiskExtent[] = [];
  const files = new ExtentFiles(context, plans);
  let start = 0;
  for (const [index, plan] of plans.entries()) {
    const extent = await openExtent(context, shared, { plan, index, start, files });
    extents.push(extent);
    start += extent.length;
    if (!Number.isSafeInteger(start)) {
      refuseImage(
        context.subject,
        `its extents have ${start} bytes`,
        `must be at most ${Number.MAX_SAFE_INTEGER}`,
      );
    }
  }
  return { extents, lacksWriting: files.lacksWriting };
}

interface Position {
  readonly plan: ExtentPlan;
  readonly index: number;
  /** Bytes of the disk before it. */
  readonly start: number;
  readonly files: ExtentFiles;
}

async function openExtent(
  context: OpenContext<object>,
  shared: SharedState,
  position: Position,
): Promise<DiskExtent> {
  const { line, own } = position.plan;
  if (line.type === 'ZERO' || line.access === 'NOACCESS' || line.filename === undefined) {
    return new ZeroExtent(line.sectors * SECTOR, { filename: line.filename ?? '', format: line.type });
  }
  const file = own ?? (await position.files.open(position.index, line, line.filename));
  const filename = file.node.filename === '' ? line.filename : file.node.filename;
  const head = await readHead(file);
  if (!SPARSE_TYPES.has(line.type) && !(line.type === 'VMFSTHIN' && hasTables(head))) {
    const ownsEnd = position.files.isAlone(line);
    return openFlat({ file, line, filename, gate: shared.gate, ownsEnd });
  }
  if (!hasTables(head)) {
    const found = JSON.stringify(head.toString('latin1', 0, 4));
    const wanted = `must be a ${line.type} extent ("KDMV", "COWD" or seSparse)`;
    refuseImage(filename, `it begins with ${found}`, wanted);
  }
  const extent = await openSparse({
    shared,
    file,
    head,
    filename,
    format: line.type,
    start: position.start,
    length: own === undefined ? line.sectors * SECTOR : undefined,
    access: line.access,
    writable: !context.common.readOnly && !file.node.readOnly,
  });
  if (own !== undefined && line.sectors !== 0 && line.sectors * SECTOR !== extent.length) {
    const sectors = extent.length / SECTOR;
    context.warn(`the descriptor says ${line.sectors} sectors, the header ${sectors}: the header is used`);
  }
  return extent;
}

function openFlat(parts: {
  file: Child;
  line: ExtentLine;
  filename: string;
  gate: SharedState['gate'];
  ownsEnd: boolean;
}): FlatExtent {
  const { file, line, filename, gate, ownsEnd } = parts;
  const offset = line.offset * SECTOR;
  const length = line.sectors * SECTOR;
  if (offset + length > file.size) {
    const wanted = `must have ${offset + length} as the descriptor says`;
    refuseImage(filename, `it has ${file.size} bytes`, wanted);
  }
  const description = { filename, format: line.type };
  return new FlatExtent({ file, offset, length, gate, canWrite: line.access === 'RW', ownsEnd, description });
}
