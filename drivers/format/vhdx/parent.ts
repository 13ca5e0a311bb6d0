import type { OpenContext } from '../../../src/block/driver.ts';
import type { Node } from '../../../src/block/node.ts';
import { Role } from '../../../src/block/permissions.ts';
import { parentNames } from './parent-locator.ts';
import type { ParentLocator } from './parent-locator.ts';

/** Opens the parent of a differencing image by the first of its names that leads to an image with the right GUID. */
export async function openParent(context: OpenContext<unknown>, locator: ParentLocator): Promise<void> {
  const [filename = `{${locator.linkages[0] ?? ''}}`, ...alternatives] = parentNames(locator);
  await context.openNamed('backing', {
    filename,
    alternatives,
    siblings: { ending: '.vhdx' },
    format: 'vhdx',
    roles: Role.cow,
    writable: false,
    verify: (node) => checkParent(node, locator),
  });
}

async function checkParent(node: Node, { linkages }: ParentLocator): Promise<string | undefined> {
  const guid = (await node.impl.info?.())?.formatSpecific?.['data-write-guid'];
  if (typeof guid === 'string' && linkages.includes(guid)) return undefined;
  return `its DataWriteGuid is ${typeof guid === 'string' ? guid : 'not known'}, must be ${linkages.join(' or ')}`;
}
