import type { Child } from '../../src/block/child.ts';
import { defineDriver, ZeroFlag } from '../../src/block/driver.ts';
import type { FilterDriver, OpenContext, PermissionChange } from '../../src/block/driver.ts';
import { BlockError, errnoOf } from '../../src/block/errors.ts';
import { Permission, Role } from '../../src/block/permissions.ts';
import type { PermissionPair } from '../../src/block/permissions.ts';
import type { CommonOptions, OptionsOf } from '../../src/block/schema.ts';
import { optional, size } from '../../src/block/schema.ts';
import { alignUp } from '../../src/util/sizes.ts';

const MIB = 1024 * 1024;
const OPTIONS = {
  'prealloc-align': optional(size('Bytes that the end of the file is rounded up to'), MIB),
  'prealloc-size': optional(size('Bytes to allocate beyond a write that makes the file longer'), 128 * MIB),
};
type Options = OptionsOf<typeof OPTIONS>;

const SECTOR = 512;
const CHANGING = Permission.write | Permission.resize;

/**
 * For an image file that grows a little with every write: it grows much and seldom. What lies past `dataEnd` is ours alone,
 * zeroes, and cut off at close.
 *
 *     0 .............. dataEnd = the size that is seen .......... fileEnd = the size of the file
 */
class Preallocate implements FilterDriver {
  readonly family = 'filter';
  private readonly file: Child;
  private readonly name: string;
  private options: Options;
  private dataEnd: number | undefined = undefined;
  private fileEnd = 0;
  private growing: Promise<void> | undefined = undefined;

  constructor(file: Child, options: Options, name: string) {
    this.file = file;
    this.options = options;
    this.name = name;
  }

  /** The child's own until we have made the file longer than it is. */
  get size(): number {
    return this.dataEnd ?? this.file.size;
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    const end = offset + bytes.length;
    if (end > this.size) await this.makeRoom(end);
    await this.file.write(bytes, offset, flags);
    this.reached(end);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.file.writeZeroes(offset, length, flags);
    this.reached(offset + length);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.file.tryWrite(bytes, at, length, offset);
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    if (size < this.size && !shrink)
      throw new BlockError('EINVAL', `Cannot resize to ${size} bytes: shrinking was not asked for`);
    await this.file.resize(size, true);
    this.dataEnd = undefined;
  }

  /** The rights to cut the file off again stay as long as there is something to cut. */
  adjustPermissions(_child: string, pair: PermissionPair): PermissionPair {
    const used = this.dataEnd === undefined ? pair.used : pair.used | CHANGING;
    return { used, shared: (used & CHANGING) === 0 ? pair.shared : pair.shared & ~CHANGING };
  }

  async reopen(common: CommonOptions, options: unknown): Promise<PermissionChange> {
    checkAlign(this.file, options as Options, this.name);
    if (common.readOnly) await this.cutOff();
    return {
      commit: () => {
        this.options = options as Options;
      },
      abort: () => undefined,
    };
  }

  async close(): Promise<void> {
    await this.growing?.catch(() => undefined);
    await this.cutOff();
  }

  /** One growth at a time; it may turn out that the one before was enough. A disk too full for it is no error yet. */
  private async makeRoom(end: number): Promise<void> {
    while (this.growing !== undefined) await this.growing;
    if (end <= Math.max(this.fileEnd, this.size)) return;
    this.growing = this.grow(end).finally(() => {
      this.growing = undefined;
    });
    await this.growing;
  }

  private async grow(end: number): Promise<void> {
    const size = this.size;
    const wanted = alignUp(end + this.options['prealloc-size'], Math.max(1, this.options['prealloc-align']));
    try {
      await this.file.writeZeroes(size, wanted - size, ZeroFlag.noFallback);
    } catch (error) {
      if (!['ENOTSUP', 'ENOSPC', 'EFBIG', 'EDQUOT'].includes(errnoOf(error))) throw error;
      return;
    }
    this.dataEnd ??= size;
    this.fileEnd = this.file.size;
  }

  private reached(end: number): void {
    if (this.dataEnd === undefined) return;
    this.dataEnd = Math.max(this.dataEnd, end);
    this.fileEnd = Math.max(this.fileEnd, this.file.size);
  }

  private async cutOff(): Promise<void> {
    const end = this.dataEnd;
    if (end === undefined) return;
    if (this.file.size > end) await this.file.resize(end, true);
    this.dataEnd = undefined;
  }
}

/** The file grows in whole requests: an end in the middle of one could not be written. */
function checkAlign(file: Child, options: Options, nodeName: string): void {
  const align = options['prealloc-align'];
  const wanted = Math.max(SECTOR, file.node.limits.requestAlignment);
  if (align % wanted === 0) return;
  const what = `option "prealloc-align" is ${align}, must be a multiple of ${wanted}`;
  throw new BlockError('EINVAL', `Cannot open node "${nodeName}": ${what}`);
}

async function open(context: OpenContext<Options>): Promise<FilterDriver> {
  const { options, nodeName } = context;
  const file = context.child('file');
  checkAlign(file, options, nodeName);
  return new Preallocate(file, options, nodeName);
}

export const preallocateDriver = defineDriver({
  name: 'preallocate',
  kind: 'filter',
  summary: 'Lets an image file grow in large steps',
  options: OPTIONS,
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The file that an image grows in' },
  },
  open,
});
