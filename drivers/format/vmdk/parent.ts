import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { hexadecimal } from './content-id.ts';
import type { Descriptor } from './descriptor.ts';
import { NO_PARENT } from './descriptor.ts';

/** The disk that this one holds the changes of; undefined without one. Refused when its content is not what it was. */
export async function openParent(
  context: OpenContext<object>,
  descriptor: Descriptor,
): Promise<Child | undefined> {
  const { parentCid, parentFileNameHint: hint } = descriptor;
  if (parentCid === NO_PARENT) return undefined;
  if (context.givenChild('backing') === null) return undefined;
  if (hint === undefined) {
    const is = `parentCID is ${hexadecimal(parentCid, 8)} and there is no parentFileNameHint`;
    return refuseImage(
      context.subject,
      is,
      'the parent must be named; give it with the option backing.file.filename',
    );
  }
  const parent = await openNamedParent(context, hint);
  if (parent !== undefined) await checkContentId(context.subject, parent, parentCid);
  return parent;
}

/** Where the hint was written on another machine and means nothing here, a file of that name beside the image does. */
async function openNamedParent(context: OpenContext<object>, hint: string): Promise<Child | undefined> {
  const reference = { format: 'vmdk', roles: Role.cow, writable: false };
  const [name = ''] = hint.split(/[/\\]/).slice(-1);
  try {
    return await context.openNamed('backing', { ...reference, filename: hint });
  } catch (error) {
    const absolute = /^(?:\/|[A-Za-z]:[/\\]|\\\\)/.test(hint);
    const missing =
      error instanceof BlockError && error.code === 'ENOENT' && error.context.path?.endsWith(hint) === true;
    if (!absolute || !missing || name === '') throw error;
    return await context.openNamed('backing', { ...reference, filename: name }).catch((again: unknown) => {
      throw again instanceof BlockError && again.code !== 'ENOENT' ? again : error;
    });
  }
}

/** A parent of another format has no content ID: whoever gave it answers for it. */
async function checkContentId(subject: string, parent: Child, wanted: number): Promise<void> {
  if (parent.node.driver.name !== 'vmdk') return;
  const info = await parent.node.impl.info?.();
  const cid = info?.formatSpecific?.['cid'];
  if (typeof cid !== 'number' || cid === wanted) return;
  const is = `parentCID is ${hexadecimal(wanted, 8)}`;
  const must = `the CID of its parent "${parent.node.filename}" is ${hexadecimal(cid, 8)} (it was written to since)`;
  refuseImage(subject, is, must);
}
