import type { LuksHeader } from './luks-header.ts';
import { LUKS_SECTOR } from './luks-header.ts';

/** What a LUKS header tells, under QEMU's keys. Holds nothing that is secret. */
export function luksInfo(header: LuksHeader): Record<string, unknown> {
  const [mode = '', generator = ''] = header.cipherMode.split(/-(.*)/s);
  const [ivgen = '', ivHash] = generator.split(':');
  const bits = (header.keyBytes * 8) / (mode === 'xts' ? 2 : 1);
  return {
    'cipher-alg': `${header.cipherName}-${bits}`,
    'cipher-mode': mode,
    'ivgen-alg': ivgen,
    ...(ivHash === undefined ? {} : { 'ivgen-hash-alg': ivHash }),
    'hash-alg': header.hash,
    'payload-offset': header.payloadOffset * LUKS_SECTOR,
    'master-key-iters': header.digestIterations,
    uuid: header.uuid,
    slots: header.slots.map((slot) => ({
      active: slot.active,
      'key-offset': slot.materialOffset * LUKS_SECTOR,
      ...(slot.active ? { iters: slot.iterations, stripes: slot.stripes } : {}),
    })),
  };
}
