import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { FilterDriver, OpenContext } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus, Extent } from '../../src/block/extent.ts';
import type { Node } from '../../src/block/node.ts';
import { Permission, Role } from '../../src/block/permissions.ts';
import type { OptionsOf } from '../../src/block/schema.ts';
import { optional, text } from '../../src/block/schema.ts';

const OPTIONS = { bottom: optional(text('Node of the backing chain below which nothing is copied')) };

/** What is read from a backing file is copied into the image on top, so that the next read finds it there. */
class CopyOnRead implements FilterDriver {
  readonly family = 'filter';
  private readonly file: Child;
  private readonly bottom: string | undefined;
  private readonly warn: (message: string) => void;
  private readonly extent = new Extent();
  private warned = false;

  constructor(file: Child, bottom: string | undefined, warn: (message: string) => void) {
    this.file = file;
    this.bottom = bottom;
    this.warn = warn;
    if (bottom !== undefined) this.depthLimit();
  }

  /** Only what the image on top has itself. */
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return (!this.mayCopy() || this.isHere(offset, length)) && this.file.tryRead(bytes, at, length, offset);
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    if (this.mayCopy() && !this.isHere(offset, bytes.length)) await this.populate(offset, bytes.length);
    await this.file.read(bytes, offset);
  }

  private mayCopy(): boolean {
    return (this.file.used & (Permission.write | Permission.writeUnchanged)) !== 0;
  }

  private isHere(offset: number, length: number): boolean {
    const layer = withoutFilters(this.file);
    const { cow } = layer.node;
    if (cow === undefined) return true;
    const end = Math.min(offset + length, cow.size);
    for (let at = offset; at < end; at += this.extent.length) {
      if (!layer.tryStatus(at, end - at, this.extent)) return false;
      if (this.extent.kind === 'unallocated' || this.extent.length <= 0) return false;
    }
    return true;
  }

  /** The read does not depend on it: it goes on when there is no room for a copy. */
  private async populate(offset: number, length: number): Promise<void> {
    const deepest = this.depthLimit();
    const status = new BlockStatus();
    try {
      for (let at = offset; at < offset + length; at += status.length) {
        await this.file.status(at, offset + length - at, status);
        if (status.length <= 0) return;
        if (status.allocated && status.depth > 0 && status.depth <= deepest)
          await this.file.copyUp(at, status.length);
      }
    } catch (error) {
      if (this.warned) return;
      this.warned = true;
      this.warn(`what was read can't be copied: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** How many layers below the top the node `bottom` is. */
  private depthLimit(): number {
    if (this.bottom === undefined) return Infinity;
    let node: Node | undefined = withoutFilters(this.file).node;
    for (let depth = 0; node !== undefined; depth += 1) {
      if (node.name === this.bottom) return depth;
      node = node.cow === undefined ? undefined : withoutFilters(node.cow).node;
    }
    const text = `Cannot copy on read: there is no node "${this.bottom}" in the backing chain of "${this.file.node.name}"`;
    throw new BlockError('EINVAL', text);
  }
}

/** The door to what filters filter. */
function withoutFilters(door: Child): Child {
  let child = door;
  while (child.node.impl.family === 'filter') child = child.node.filteredChild();
  return child;
}

function open(context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<FilterDriver> {
  const warn = (message: string): void => {
    context.warn(message);
  };
  return Promise.resolve(new CopyOnRead(context.child('file'), context.options.bottom, warn));
}

export const copyOnReadDriver = defineDriver({
  name: 'copy-on-read',
  kind: 'filter',
  summary: 'Copies what is read from backing files into the image on top',
  options: OPTIONS,
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The image on top of the chain' },
  },
  open,
  childPermissions: (_name, _roles, parent, readOnly) => ({
    used: parent.used | (readOnly ? 0 : Permission.writeUnchanged),
    shared: parent.shared,
  }),
});
