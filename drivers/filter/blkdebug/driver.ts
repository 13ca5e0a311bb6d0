import type { Child } from '../../../src/block/child.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import type { FilterDriver, OpenContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { Permission, Role } from '../../../src/block/permissions.ts';
import type { PermissionName, PermissionPair, Permissions } from '../../../src/block/permissions.ts';
import { errnoName } from '../errno-numbers.ts';
import { parseConfig, ruleSet } from './config.ts';
import type { IoType } from './events.ts';
import { blkdebugLimits } from './limits.ts';
import { OPTIONS } from './options.ts';
import type { Options } from './options.ts';
import { RuleMachine } from './rules.ts';

const BITS: Readonly<Record<PermissionName, Permissions>> = {
  'consistent-read': Permission.consistentRead,
  write: Permission.write,
  'write-unchanged': Permission.writeUnchanged,
  resize: Permission.resize,
};

/** Fails requests by rule, and narrows what may be asked of the image. */
class Blkdebug implements FilterDriver {
  readonly family = 'filter';
  readonly limits: Partial<Limits>;
  private readonly image: Child;
  private readonly rules: RuleMachine;
  private readonly node: string;
  private readonly taken: Permissions;
  private readonly unshared: Permissions;

  constructor(image: Child, rules: RuleMachine, options: Options, node: string) {
    this.image = image;
    this.rules = rules;
    this.node = node;
    this.limits = blkdebugLimits(options, node);
    this.taken = bits(options['take-child-perms']);
    this.unshared = bits(options['unshare-child-perms']);
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.rules.isQuiet('read') && this.image.tryRead(bytes, at, length, offset);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.rules.isQuiet('write') && this.image.tryWrite(bytes, at, length, offset);
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    await this.happen('read', offset, bytes.length);
    await this.image.read(bytes, offset);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    await this.happen('write', offset, bytes.length);
    await this.image.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.happen('write-zeroes', offset, length);
    await this.image.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.happen('discard', offset, length);
    await this.image.discard(offset, length);
  }

  async flush(): Promise<void> {
    await this.happen('flush', 0, 0);
    await this.image.flush();
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    const rule = this.rules.isQuiet('block-status')
      ? undefined
      : this.rules.request('block-status', offset, max);
    if (rule !== undefined) throw this.failure('block-status', rule.errno);
    return out.setData(this.image, offset, max, false);
  }

  adjustPermissions(_child: string, pair: PermissionPair): PermissionPair {
    return { used: pair.used | this.taken, shared: pair.shared & ~this.unshared };
  }

  /** Fails where a rule says so, some time later unless it says at once. */
  private async happen(type: IoType, offset: number, length: number): Promise<void> {
    const rule = this.rules.request(type, offset, length);
    if (rule === undefined) return;
    if (!rule.immediately) await new Promise(setImmediate);
    throw this.failure(type, rule.errno);
  }

  private failure(type: IoType, errno: number): BlockError {
    return new BlockError(
      errnoName(errno),
      `Cannot ${type} "${this.node}": failed, as a rule of blkdebug says`,
    );
  }
}

function bits(names: readonly PermissionName[]): Permissions {
  return names.reduce((sum, name) => sum | BITS[name], 0);
}

async function open(context: OpenContext<Options>): Promise<FilterDriver> {
  const { options, nodeName } = context;
  const own = ruleSet(options['inject-error'], options['set-state']);
  const { config } = options;
  const read = config === undefined ? undefined : parseConfig(await context.readText(config), config);
  const rules = new RuleMachine({
    inject: [...(read?.inject ?? []), ...own.inject],
    setState: [...(read?.setState ?? []), ...own.setState],
  });
  return new Blkdebug(context.child('image'), rules, options, nodeName);
}

export const blkdebugDriver = defineDriver({
  name: 'blkdebug',
  kind: 'filter',
  summary: 'Makes requests fail by rules and narrows limits, for tests',
  options: OPTIONS,
  children: {
    image: { roles: Role.filtered | Role.primary, required: true, summary: 'The node to be tested' },
  },
  prefixes: ['blkdebug:'],
  /** `blkdebug:rules:image`; without rules `blkdebug::image`. */
  parseFilename(filename) {
    const [, config = '', image] = /^blkdebug:([^:]*):([^]*)$/.exec(filename) ?? [];
    if (image === undefined)
      throw new BlockError('EINVAL', `Cannot open "${filename}": must be blkdebug:rules:image`);
    return { ...(config === '' ? {} : { config }), image: { filename: image } };
  },
  open,
});
