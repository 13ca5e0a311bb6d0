import type { Child } from '../../src/block/child.ts';
import type { FilterDriver, OpenContext, PermissionChange } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Role } from '../../src/block/permissions.ts';
import type { CommonOptions, OptionsOf } from '../../src/block/schema.ts';
import { text } from '../../src/block/schema.ts';
import { ThrottleGroup } from '../../src/block/throttle-group.ts';
import type { ThrottleMember } from '../../src/block/throttle-group.ts';

const OPTIONS = { 'throttle-group': text('Id of the throttle-group object whose limits hold for this node') };

/** Lets requests pass as the limits of its group allow. While they do, nothing waits and the fast path stays fast. */
class Throttle implements FilterDriver {
  readonly family = 'filter';
  private readonly file: Child;
  private readonly findGroup: (id: string) => ThrottleGroup;
  private readonly user: string;
  private member: ThrottleMember;

  constructor(file: Child, group: string, user: string, findGroup: (id: string) => ThrottleGroup) {
    this.file = file;
    this.user = user;
    this.findGroup = findGroup;
    this.member = findGroup(group).join(user);
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { member } = this;
    if (!member.mayPass('read') || !this.file.tryRead(bytes, at, length, offset)) return false;
    return member.account('read', length);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { member } = this;
    if (!member.mayPass('write') || !this.file.tryWrite(bytes, at, length, offset)) return false;
    return member.account('write', length);
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    await this.member.pass('read', bytes.length);
    await this.file.read(bytes, offset);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    await this.member.pass('write', bytes.length);
    await this.file.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.member.pass('write', length);
    await this.file.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.member.pass('write', length);
    await this.file.discard(offset, length);
  }

  drainBegin(): void {
    this.member.release();
  }

  drainEnd(): void {
    this.member.resume();
  }

  /** Another group, from the commit on. */
  reopen(_common: CommonOptions, options: unknown): Promise<PermissionChange> {
    const next = this.findGroup((options as OptionsOf<typeof OPTIONS>)['throttle-group']).join(this.user);
    return Promise.resolve({
      commit: () => {
        next.bypass = this.member.bypass;
        this.member.leave();
        this.member = next;
      },
      abort: () => {
        next.leave();
      },
    });
  }

  close(): Promise<void> {
    this.member.leave();
    return Promise.resolve();
  }
}

function open(context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<FilterDriver> {
  const find = (id: string): ThrottleGroup => {
    const group = context.object('throttle-group', id);
    if (group instanceof ThrottleGroup) return group;
    throw new BlockError('EINVAL', `Cannot open node "${context.nodeName}": "${id}" is no throttle-group`);
  };
  const group = context.options['throttle-group'];
  return Promise.resolve(new Throttle(context.child('file'), group, `node "${context.nodeName}"`, find));
}

export const throttleDriver = defineDriver({
  name: 'throttle',
  kind: 'filter',
  summary: 'Limits bytes and operations per second, alone or together with other nodes',
  options: OPTIONS,
  children: {
    file: { roles: Role.filtered | Role.primary, required: true, summary: 'The node to be throttled' },
  },
  open,
});
