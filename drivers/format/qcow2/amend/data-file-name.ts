import type { DiskParts } from '../disk.ts';
import { ExtensionType } from '../extensions.ts';
import { firstCluster } from './first-cluster.ts';

/** The image names another data file from now on; the one that is open stays open. */
export async function changeDataFileName({ image, area }: DiskParts, name: string): Promise<void> {
  const others = area.list.filter(({ type }) => type !== ExtensionType.dataFile);
  const list = [{ type: ExtensionType.dataFile, data: Buffer.from(name) }, ...others];
  await image.header.rewrite(await firstCluster(image, image.header.length, list));
  area.list = list;
}
