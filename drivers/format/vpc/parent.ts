import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import type { Node } from '../../../src/block/node.ts';
import { Role } from '../../../src/block/permissions.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import { decodeLocators, parentNames } from './locators.ts';

/** Opens the parent of a differencing image by the first of its names that leads to an image with the right UUID. */
export async function openParent(
  context: OpenContext<unknown>,
  file: Child,
  header: DynamicHeader,
  headerBytes: Buffer,
): Promise<void> {
  const names = await parentNames(file, decodeLocators(headerBytes, file.size), header);
  const [filename = header.parent_uuid, ...alternatives] = names;
  await context.openNamed('backing', {
    filename,
    alternatives,
    siblings: '.vhd',
    format: 'vpc',
    roles: Role.cow,
    writable: false,
    verify: (node) => checkParent(node, header),
  });
}

async function checkParent(node: Node, header: DynamicHeader): Promise<string | undefined> {
  const uuid = (await node.impl.info?.())?.formatSpecific?.['uuid'];
  if (uuid === header.parent_uuid) return undefined;
  return `its UUID is ${typeof uuid === 'string' ? uuid : 'not known'}, must be ${header.parent_uuid}`;
}
