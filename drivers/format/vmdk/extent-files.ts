import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import type { ExtentLine } from './extent-line.ts';
import type { ExtentPlan } from './open-extents.ts';
import { windowsNames } from './other-names.ts';

/** The files of the extents, through the gate as `extents.N`. Flat pieces of one file or device share one child. */
export class ExtentFiles {
  /** A file that should be written can only be read. */
  lacksWriting = false;
  private readonly context: OpenContext<object>;
  private readonly plans: readonly ExtentPlan[];
  private readonly written: ReadonlySet<string | undefined>;
  private readonly flat = new Map<string, Child>();
  /** Whether a file has tables, by its name: then it belongs to one extent, or two would give out its room. */
  private readonly sparse = new Map<string, boolean>();

  constructor(context: OpenContext<object>, plans: readonly ExtentPlan[]) {
    this.context = context;
    this.plans = plans;
    this.written = new Set(plans.filter(({ line }) => line.access === 'RW').map(({ line }) => line.filename));
  }

  /** Whether a file is that of one flat extent only. */
  isAlone({ type, filename }: ExtentLine): boolean {
    const files = ['FLAT', 'VMFS', 'VMFSTHIN'];
    return files.includes(type) && this.plans.filter(({ line }) => line.filename === filename).length === 1;
  }

  async open(index: number, line: ExtentLine, filename: string): Promise<Child> {
    const known = isFlat(line) ? this.flat.get(filename) : undefined;
    if (known !== undefined) return known;
    const name = `extents.${index}`;
    const writable = this.written.has(filename);
    const storage = isFlat(line) ? Role.data : Role.data | Role.metadata;
    const child = await this.context.openNamed(name, {
      filename,
      alternatives: windowsNames(filename),
      format: 'raw',
      roles: writable ? storage : ONLY_READ,
      writable,
    });
    if (child === undefined)
      return refuseImage(this.context.subject, `option ${name} is null`, 'an extent has a file');
    this.claim(name, child, !isFlat(line));
    if (writable && child.node.readOnly) this.lacksWriting = true;
    if (isFlat(line)) this.flat.set(filename, child);
    return child;
  }

  private claim(name: string, { node }: Child, isSparse: boolean): void {
    const known = this.sparse.get(node.filename);
    if (known === true || (known === false && isSparse)) {
      const is = `${name} is in "${node.filename}", as is another extent`;
      refuseImage(this.context.subject, is, 'a file with grain tables must be of one extent alone');
    }
    if (node.filename !== '') this.sparse.set(node.filename, isSparse);
  }
}

/** The roles of a file that the descriptor says is never written: none of those that come with writing. */
export const ONLY_READ = 0;

const isFlat = ({ type }: ExtentLine): boolean =>
  !['SPARSE', 'VMFSSPARSE', 'SESPARSE', 'VMFSTHIN'].includes(type);
