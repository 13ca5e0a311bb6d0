/** `amend` of key slots, with QEMU's options and refusals. Everything is looked at first: what is planned can be done. */
import type { AmendRequest } from '../block/amend-request.ts';
import { BlockError } from '../block/errors.ts';
import { iterationsFor } from './luks-create.ts';
import { LUKS_SECTOR } from './luks-header.ts';
import { materialBytes, openSlot, unlock } from './luks-key.ts';
import { emptySlot, fillSlot } from './luks-slots.ts';
import type { LuksStore, NewKey } from './luks-slots.ts';

export const LUKS_AMEND_OPTIONS = ['state', 'new-secret', 'old-secret', 'keyslot', 'iter-time'] as const;
type Name = (typeof LUKS_AMEND_OPTIONS)[number];

const STRIPES = 4000;
const ITER_TIME = 2000;
const ITER_TIME_MAX = 600_000;

export interface SlotAmendment {
  readonly store: LuksStore;
  readonly request: AmendRequest;
  /** What stands before the names of the options. */
  readonly prefix: string;
  /** A passphrase that opens the volume now. */
  readonly passphrase: () => Promise<Buffer | undefined>;
}

/** Resolves to what is left to do; rejects with nothing written. */
export async function planSlots(given: SlotAmendment): Promise<() => Promise<void>> {
  const planner = new Planner(given);
  const { state } = planner.options;
  if (state === 'active') return planner.activate();
  if (state === 'inactive') return planner.deactivate();
  return planner.refuse(
    `state is ${state === undefined ? 'missing' : `"${state}"`}, must be active or inactive`,
  );
}

class Planner {
  readonly options: Readonly<Partial<Record<Name, string>>>;
  private readonly given: SlotAmendment;

  constructor(given: SlotAmendment) {
    this.given = given;
    const { prefix, request } = given;
    const named = LUKS_AMEND_OPTIONS.map((name) => [name, request.options[prefix + name]] as const);
    this.options = Object.fromEntries(named.filter(([, value]) => value !== undefined));
  }

  async activate(): Promise<() => Promise<void>> {
    const { store, request } = this.given;
    this.refuseGiven('old-secret', 'is for state=inactive');
    const index = this.slotToFill();
    const spare = this.spareFor(index);
    const milliseconds = this.number('iter-time', 1, ITER_TIME_MAX) ?? ITER_TIME;
    const masterKey = await this.masterKey();
    const passphrase = await request.secret(this.options['new-secret']);
    if (passphrase.length === 0) this.refuse('the new passphrase is empty');
    const { hash, keyBytes } = store.header;
    return async () => {
      try {
        const iterations = await iterationsFor(milliseconds, hash, keyBytes);
        await this.fill(index, spare, { masterKey, passphrase, iterations });
      } finally {
        masterKey.fill(0);
      }
    };
  }

  async deactivate(): Promise<() => Promise<void>> {
    const { store, request } = this.given;
    for (const name of ['new-secret', 'iter-time'] as const) this.refuseGiven(name, 'is for state=active');
    const slots = await this.slotsToEmpty();
    const left = this.active.filter((index) => !slots.includes(index));
    if (left.length === 0 && !request.force)
      this.refuse('no key would be left, and the content lost for ever; --force does it all the same');
    for (const index of slots) this.requireRoom(index);
    return async () => {
      for (const index of slots) await emptySlot(store, index);
    };
  }

  refuse(why: string): never {
    throw new BlockError('EINVAL', `Cannot amend the keys of "${this.given.store.subject}": ${why}`);
  }

  private get active(): number[] {
    const { slots } = this.given.store.header;
    return [...slots.keys()].filter((index) => slots[index]?.active);
  }

  private slotToFill(): number {
    const { header } = this.given.store;
    const wanted = this.number('keyslot', 0, header.slots.length - 1);
    const index = wanted ?? header.slots.findIndex(({ active }) => !active);
    if (index < 0) this.refuse(`all ${header.slots.length} key slots are in use: make one inactive first`);
    if (header.slots[index]?.active === true && this.given.request.force !== true)
      this.refuse(`key slot ${index} is in use: make it inactive first, or say --force`);
    this.requireRoom(index);
    return index;
  }

  private async slotsToEmpty(): Promise<number[]> {
    const { store, request } = this.given;
    const wanted = this.number('keyslot', 0, store.header.slots.length - 1);
    const old = this.options['old-secret'];
    if (wanted === undefined && old === undefined) this.refuse('keyslot or old-secret must say which keys');
    const matching = old === undefined ? this.active : await this.slotsOf(await request.secret(old));
    if (wanted === undefined) {
      if (matching.length === 0) this.refuse('no key slot has the passphrase that old-secret names');
      return matching;
    }
    if (old !== undefined && !matching.includes(wanted))
      this.refuse(`key slot ${wanted} does not have the passphrase that old-secret names`);
    if (!this.active.includes(wanted) && !request.force)
      this.refuse(`key slot ${wanted} is inactive already`);
    return [wanted];
  }

  private async slotsOf(passphrase: Buffer): Promise<number[]> {
    const { store } = this.given;
    const found: number[] = [];
    for (const [index, slot] of store.header.slots.entries()) {
      const key = await openSlot(store.header, slot, passphrase, (bytes, at) => store.read(bytes, at));
      if (key !== undefined) found.push(index);
      key?.fill(0);
    }
    return found;
  }

  private async masterKey(): Promise<Buffer> {
    const { store, passphrase } = this.given;
    const key = (await passphrase()) ?? this.refuse('a new key needs one that opens the volume now');
    return unlock(store.header, key, (bytes, at) => store.read(bytes, at), store.subject);
  }

  /** The only active slot is not touched before another one is filled: that one, for a while. */
  private spareFor(index: number): number | undefined {
    if (this.active.length !== 1 || this.active[0] !== index) return undefined;
    const spare = this.given.store.header.slots.findIndex(({ active }) => !active);
    this.requireRoom(spare);
    return spare;
  }

  private async fill(index: number, spare: number | undefined, key: NewKey): Promise<void> {
    const { store } = this.given;
    if (spare !== undefined) await fillSlot(store, spare, key);
    if (this.active.includes(index)) await emptySlot(store, index);
    await fillSlot(store, index, key);
    if (spare !== undefined) await emptySlot(store, spare);
  }

  /** What a slot that is not in use says of its place was not looked at before. */
  private requireRoom(index: number): void {
    const { header, length } = this.given.store;
    const { materialOffset = 0, stripes = 0 } = header.slots[index] ?? {};
    const bytes = materialBytes(header.keyBytes);
    const start = materialOffset * LUKS_SECTOR;
    const end = start + bytes;
    const most = Math.min(length, header.payloadOffset * LUKS_SECTOR || length);
    if (stripes !== STRIPES) this.refuse(`key slot ${index} has ${stripes} stripes, must be ${STRIPES}`);
    if (materialOffset < 2 || end > most)
      this.refuse(`key slot ${index} would lie at ${start} to ${end}, outside the room for keys`);
    for (const other of this.active) {
      const at = (header.slots[other]?.materialOffset ?? 0) * LUKS_SECTOR;
      if (other !== index && start < at + bytes && at < end)
        this.refuse(`key slot ${index} would lie over key slot ${other}`);
    }
  }

  private refuseGiven(name: Name, why: string): void {
    if (this.options[name] !== undefined) this.refuse(`${name} ${why}`);
  }

  private number(name: Name, least: number, most: number): number | undefined {
    const text = this.options[name];
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      this.refuse(`${name} is "${text}", must be ${least} to ${most}`);
    return value;
  }
}
