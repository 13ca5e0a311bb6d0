import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import type { Node } from '../../../src/block/node.ts';
import { Role } from '../../../src/block/permissions.ts';
import type { VdiHeader } from './header.ts';

/**
 * Opens the parent of a differencing image. It is known by its UUID only: every image of the folder may be it, and where
 * that is the one in which VirtualBox keeps the snapshots of a disk, every image of the folder above.
 */
export async function openParent(
  context: OpenContext<unknown>,
  header: VdiHeader,
): Promise<Child | undefined> {
  const backing = await context.openNamed('backing', {
    filename: `{${header.uuid_link}}.vdi`,
    siblings: { ending: '.vdi', inside: 'Snapshots' },
    format: 'vdi',
    roles: Role.cow,
    writable: false,
    verify: (node) => checkParent(node, header),
  });
  if (backing !== undefined) await warnWhenChanged(context, backing.node, header);
  return backing;
}

async function checkParent(node: Node, header: VdiHeader): Promise<string | undefined> {
  const uuid = await parentField(node, 'uuid');
  return uuid === header.uuid_link
    ? undefined
    : `its UUID is ${uuid ?? 'not known'}, must be ${header.uuid_link}`;
}

async function warnWhenChanged(context: OpenContext<unknown>, node: Node, header: VdiHeader): Promise<void> {
  const now = await parentField(node, 'modification-uuid');
  if (now === undefined || now === header.uuid_parent_modification) return;
  context.warn(
    `the parent "${node.filename ?? node.name}" was changed after this image was made: its modification UUID is ` +
      `${now}, the image was made over ${header.uuid_parent_modification}`,
  );
}

async function parentField(node: Node, name: string): Promise<string | undefined> {
  const value = (await node.impl.info?.())?.formatSpecific?.[name];
  return typeof value === 'string' ? value : undefined;
}
