import type { DiskParts } from '../disk.ts';
import { encodeField } from '../header.ts';
import { firstCluster } from './first-cluster.ts';

/** Bytes of the header that version 3 gets. */
export const V3_LENGTH_WRITTEN = 112;
const REFCOUNT_ORDER_V2 = 4;

/** Version 3 of version 2. The header gets longer, and what follows it moves back, all in one write of the first cluster. */
export async function upgrade({ image, area }: DiskParts): Promise<void> {
  const head = await firstCluster(image, V3_LENGTH_WRITTEN, area.list);
  encodeField(head, 'version', 3);
  encodeField(head, 'refcount_order', REFCOUNT_ORDER_V2);
  encodeField(head, 'header_length', V3_LENGTH_WRITTEN);
  await image.header.rewrite(head);
}
