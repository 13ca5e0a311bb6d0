import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import type { Node } from '../../../src/block/node.ts';
import { Role } from '../../../src/block/permissions.ts';
import { modifiedAt } from '../../../src/block/storage.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import { timeOf, timestampOf } from './footer.ts';
import { decodeLocators, parentNames } from './locators.ts';

/** What file systems round times to. */
const SLACK = 2;

/**
 * Opens the parent of a differencing image by the first of its names that leads to an image with the right UUID. Returns the
 * first name, whether it leads there or not.
 */
export async function openParent(
  context: OpenContext<unknown>,
  file: Child,
  header: DynamicHeader,
  headerBytes: Buffer,
): Promise<string> {
  const names = await parentNames(file, decodeLocators(headerBytes, file.size), header);
  const [filename = header.parent_uuid, ...alternatives] = names;
  const backing = await context.openNamed('backing', {
    filename,
    alternatives,
    siblings: { ending: '.vhd' },
    format: 'vpc',
    roles: Role.cow,
    writable: false,
    verify: (node) => checkParent(node, header),
  });
  if (backing !== undefined) warnWhenChanged(context, backing.node, header);
  return filename;
}

/** A parent has no mark of its content but the time when its file was changed, which not every copy keeps. */
function warnWhenChanged(context: OpenContext<unknown>, node: Node, header: DynamicHeader): void {
  const { parent_timestamp: known } = header;
  const changed = modifiedAt(node);
  if (known === 0 || changed === undefined || timestampOf(changed) <= known + SLACK) return;
  context.warn(
    `the parent "${node.filename}" was changed, or copied, after this image was made: the file is of ` +
      `${new Date(changed).toISOString()}, the image knows it as of ${timeOf(known).toISOString()}`,
  );
}

async function checkParent(node: Node, header: DynamicHeader): Promise<string | undefined> {
  const uuid = (await node.impl.info?.())?.formatSpecific?.['uuid'];
  if (uuid === header.parent_uuid) return undefined;
  return `its UUID is ${typeof uuid === 'string' ? uuid : 'not known'}, must be ${header.parent_uuid}`;
}
