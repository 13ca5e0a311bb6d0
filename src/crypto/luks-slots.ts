/**
 * Key slots of a LUKS1 volume are filled and emptied. At each step at least one key opens the volume:
 *
 *   fill    key material -> flush -> entry, still inactive -> flush -> "active", within a sector -> flush
 *   empty   "inactive", within a sector -> flush -> entry and key material overwritten -> flush
 */
import { randomBytes } from 'node:crypto';
import type { LuksHeader, LuksKeySlot } from './luks-header.ts';
import { encodeSlotEntry, encodeSlotState, LUKS_SECTOR, slotEntryAt } from './luks-header.ts';
import { materialBytes, sealKey } from './luks-key.ts';

/** Where the header is; offsets count from its start. */
export interface LuksStore {
  readonly subject: string;
  readonly header: LuksHeader;
  /** Bytes that belong to header and key material. */
  readonly length: number;
  read(bytes: Buffer, offset: number): Promise<void>;
  write(bytes: Buffer, offset: number): Promise<void>;
  flush(): Promise<void>;
}

export interface NewKey {
  readonly masterKey: Buffer;
  readonly passphrase: Buffer;
  readonly iterations: number;
}

const NO_SALT = Buffer.alloc(32);

/** @param index of a slot that is not active */
export async function fillSlot(store: LuksStore, index: number, key: NewKey): Promise<void> {
  const { header } = store;
  const old = header.slots[index];
  if (old === undefined) return;
  const slot: LuksKeySlot = { ...old, active: false, iterations: key.iterations, salt: randomBytes(32) };
  const material = await sealKey(header, key.masterKey, key.passphrase, slot);
  await store.write(material, slot.materialOffset * LUKS_SECTOR);
  await store.flush();
  await store.write(encodeSlotEntry(slot), slotEntryAt(index));
  await store.flush();
  await store.write(encodeSlotState(true), slotEntryAt(index));
  await store.flush();
}

export async function emptySlot(store: LuksStore, index: number): Promise<void> {
  const old = store.header.slots[index];
  if (old === undefined) return;
  await store.write(encodeSlotState(false), slotEntryAt(index));
  await store.flush();
  const slot: LuksKeySlot = { ...old, active: false, iterations: 0, salt: NO_SALT };
  await store.write(encodeSlotEntry(slot), slotEntryAt(index));
  const noise = randomBytes(materialBytes(store.header.keyBytes));
  await store.write(noise, old.materialOffset * LUKS_SECTOR);
  await store.flush();
}
