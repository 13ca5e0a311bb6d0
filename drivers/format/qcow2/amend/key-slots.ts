import type { AmendRequest } from '../../../../src/block/amend-request.ts';
import { planSlots } from '../../../../src/crypto/luks-amend.ts';
import type { DiskParts } from '../disk.ts';
import { KEYS, refuserOf } from './wanted.ts';

/** What is to be done to the key slots; nothing where no option is about them. Rejects with nothing written. */
export async function planKeySlots(
  { image, luks }: DiskParts,
  request: AmendRequest,
): Promise<() => Promise<void>> {
  const first = Object.keys(request.options).find((name) => name.startsWith(KEYS));
  if (first === undefined) return () => Promise.resolve();
  if (luks === undefined) return refuserOf(image)(`${first} is for images that are encrypted with LUKS`);
  const { store, passphrase } = luks;
  return planSlots({ store, passphrase, request, prefix: KEYS });
}
