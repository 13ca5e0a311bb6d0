/**
 * A flat disk cut into numbered files: name.001, name.002 ... (or from .000 on), all but the last of one size. It is resized
 * within its last part: parts are neither added nor removed.
 */
import type { Child } from '../../src/block/child.ts';
import type { ImageInfo, MappingDriver, OpenContext } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';
import { refuseImage } from '../../src/block/refuse.ts';

const PARTS_MAX = 10_000;
/** A part that is missing is told from the end by looking for parts behind it. */
const LOOK_AHEAD = 3;
const FIRST_PART = /^(.*\.)(0+[01])$/s;

class SplitDisk implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = true;
  readonly limits = limits({});
  size: number;
  private readonly parts: readonly Child[];
  /** Bytes of every part but the last. */
  private partSize: number;

  constructor(parts: readonly Child[]) {
    this.parts = parts;
    this.partSize = parts[0]?.size ?? 0;
    this.size = this.partSize * (parts.length - 1) + (parts.at(-1)?.size ?? 0);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const index = Math.min(Math.floor(offset / this.partSize), this.parts.length - 1);
    const inside = offset - index * this.partSize;
    const part = this.parts[index];
    return out.setData(part, inside, Math.min(max, (part?.size ?? 0) - inside), true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  async flush(): Promise<void> {
    await Promise.all(this.parts.map((part) => part.flush()));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** The last part changes its size; it stays no longer than the others. */
  async resize(size: number, shrink: boolean): Promise<void> {
    const last = this.parts.at(-1);
    if (last === undefined) return;
    const length = last.size + size - this.size;
    const most = this.parts.length > 1 ? this.partSize : Number.MAX_SAFE_INTEGER;
    if (length < 1 || length > most) {
      const is = `the last part, "${last.node.filename}", would have ${length} bytes`;
      const wanted = `must have 1 to ${most}; parts are neither added nor removed`;
      throw new BlockError('ENOTSUP', `Cannot resize the disk to ${size} bytes: ${is}, ${wanted}`);
    }
    await last.resize(length, shrink);
    await last.flush();
    if (this.parts.length === 1) this.partSize = length;
    this.size = size;
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve({ formatSpecific: { parts: this.parts.length, 'part-size': this.partSize } });
  }
}

async function open(context: OpenContext<object>): Promise<MappingDriver> {
  const { subject } = context;
  const first = context.child('file');
  const match = FIRST_PART.exec(subject);
  if (match === null)
    refuseImage(subject, 'the name has no number of a first part', 'must end in .001 or .000');
  const [, , number = ''] = match;
  const name = subject.slice(subject.lastIndexOf('/') + 1, subject.length - number.length);
  const nameOf = (index: number): string =>
    name + String(Number(number) + index).padStart(number.length, '0');
  const parts = [first];
  for (let part = await openPart(context, 1, nameOf); part !== undefined;) {
    checkSizes(parts, part, nameOf, subject);
    parts.push(part);
    part = await openPart(context, parts.length, nameOf);
  }
  await lookForGap(context, parts.length, nameOf);
  return new SplitDisk(parts);
}

/** The part, or undefined when there is none of that number. */
async function openPart(
  context: OpenContext<object>,
  index: number,
  nameOf: (index: number) => string,
): Promise<Child | undefined> {
  if (index >= PARTS_MAX)
    refuseImage(context.subject, `there are ${index} parts`, `at most ${PARTS_MAX - 1} are supported`);
  const reference = { filename: nameOf(index), format: 'raw', roles: Role.data, writable: true };
  return context.openNamed(`extents.${index}`, reference).catch((error: unknown) => {
    if (error instanceof BlockError && error.code === 'ENOENT') return undefined;
    throw error;
  });
}

function checkSizes(
  parts: readonly Child[],
  next: Child,
  nameOf: (index: number) => string,
  subject: string,
): void {
  const wanted = parts[0]?.size ?? 0;
  const last = parts.at(-1)?.size ?? 0;
  if (last !== wanted || last === 0) {
    refuseImage(
      subject,
      `part ${nameOf(parts.length - 1)} has ${last} bytes`,
      `must have ${wanted} as the first, more follow it`,
    );
  }
  if (next.size > wanted)
    refuseImage(
      subject,
      `part ${nameOf(parts.length)} has ${next.size} bytes`,
      `must have at most ${wanted}`,
    );
}

async function lookForGap(
  context: OpenContext<object>,
  count: number,
  nameOf: (index: number) => string,
): Promise<void> {
  for (let index = count + 1; index <= count + LOOK_AHEAD; index += 1) {
    if ((await openPart(context, index, nameOf)) === undefined) continue;
    const folder = context.subject.slice(0, context.subject.lastIndexOf('/') + 1);
    const text = `"${folder}${nameOf(count)}" is missing, but ${nameOf(index)} is there; another file can be given with extents.${count}.filename`;
    throw new BlockError('ENOENT', `Cannot open image "${context.subject}": ${text}`);
  }
}

export const splitDriver = defineDriver({
  name: 'split',
  kind: 'format',
  summary: 'A flat disk cut into numbered files (name.001, name.002)',
  options: {},
  children: {
    file: {
      roles: Role.data | Role.primary,
      required: true,
      summary: 'The first part; the others lie beside it',
    },
  },
  /** Nothing in a part says that it is one: taken for it only when no format knows the content. */
  probe: (_head, filename) => (/\.0+[01]$/.test(filename) && filename.length > 4 ? 1 : 0),
  open,
});
