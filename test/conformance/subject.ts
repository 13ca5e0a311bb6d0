import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Graph } from '../../src/block/graph.ts';
import { run } from '../helpers/run.ts';

/** An image of one kind, as the suite sees it. Add one to the table in images.ts; nothing else is needed. */
export interface Subject {
  /** Name of the tests: driver first, then what is special about it. */
  readonly name: string;
  readonly driver: string;
  /** Programs that making or judging it takes. */
  readonly tools: readonly string[];
  /** Only root can make it. */
  readonly root?: boolean;
  /** What the driver can do with it; the suite leaves out what it can't, and sees that it is refused. */
  readonly can: {
    readonly write?: boolean;
    readonly grow?: boolean;
    readonly shrink?: boolean;
    /** Content is still there after closing (default true). */
    readonly reopen?: boolean;
    /** The format is found from the bytes alone (default true). */
    readonly probe?: boolean;
  };
  /** Bytes of the disk that the suite fills; undefined for the suite's own choice. */
  readonly size?: number;
  /** Makes an image in `folder` with this content. Undefined path: nothing on disk, the suite writes the content itself. */
  make(folder: string, content: Buffer): Promise<Image>;
  /** Judges the closed image: rejects when it is damaged, or does not hold `content`. */
  judge?(image: Image, content: Buffer): Promise<void>;
}

export interface Image {
  /** Options tree that opens it. */
  readonly options: Record<string, unknown>;
  readonly path?: string;
  /** Adds keys and objects that the options name. */
  prepare?(graph: Graph): void;
  /** Undoes what making it set up, after the test. */
  end?(): Promise<void>;
}

/** Whether the suite may write: what all abilities but reading need. */
export const isWritable = (subject: Subject): boolean => subject.can.write ?? true;

export interface QemuImage extends Partial<Pick<Subject, 'can' | 'size' | 'judge'>> {
  readonly name: string;
  /** Name of the format for qemu-img and of the driver here (`driver` where it is another). */
  readonly format: string;
  readonly driver?: string;
  /** -o of qemu-img convert. */
  readonly create?: string;
  /** Further arguments of qemu-img convert, such as -c. */
  readonly args?: readonly string[];
  /** qemu-img check knows the format. */
  readonly check?: boolean;
  /** Options of the format node beside driver and file. */
  readonly options?: Record<string, unknown>;
}

/** A format that qemu-img makes from a flat file, and judges by comparing with one. */
export function qemuImage(kind: QemuImage): Subject {
  const { name, format, driver = format, create, args = [], check = false, options = {}, can = {} } = kind;
  return {
    name,
    driver,
    tools: ['qemu-img'],
    can,
    ...(kind.size === undefined ? {} : { size: kind.size }),
    async make(folder, content) {
      const path = join(folder, `disk.${format}`);
      const flat = join(folder, 'content.raw');
      await writeFile(flat, content);
      const shape = create === undefined ? [] : ['-o', create];
      await run('qemu-img', ['convert', '-q', '-f', 'raw', '-O', format, ...args, ...shape, flat, path]);
      return { path, options: { driver, file: { driver: 'file', filename: path }, ...options } };
    },
    judge: kind.judge ?? ((image, content) => judgeWithQemu(image, content, { format, check })),
  };
}

/** `qemu-img check` finds neither errors nor leaks, and `qemu-img compare` no difference. */
export async function judgeWithQemu(
  image: Image,
  content: Buffer,
  how: { format: string; check: boolean },
): Promise<void> {
  const { path = '' } = image;
  const wanted = `${path}.wanted`;
  await writeFile(wanted, content);
  if (how.check) await run('qemu-img', ['check', '-f', how.format, path]);
  await run('qemu-img', ['compare', '-f', 'raw', '-F', how.format, wanted, path]);
}

/** A flat file with the content, opened by the options that `open` makes of its path. */
export function flatFile(kind: {
  name: string;
  driver: string;
  can?: Subject['can'];
  open: (path: string) => Record<string, unknown>;
}): Subject {
  return {
    name: kind.name,
    driver: kind.driver,
    tools: [],
    can: { grow: true, shrink: true, probe: false, ...kind.can },
    async make(folder, content) {
      const path = join(folder, 'disk.raw');
      await writeFile(path, content);
      return { path, options: kind.open(path) };
    },
    async judge(image, content) {
      if (!content.equals(await readFile(image.path ?? '')))
        throw new Error('The file is not what was written');
    },
  };
}
