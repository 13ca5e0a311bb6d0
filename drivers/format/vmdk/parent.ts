import type { Child } from '../../../src/block/child.ts';
import type { OpenContext } from '../../../src/block/driver.ts';
import type { Node } from '../../../src/block/node.ts';
import { Role } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { hexadecimal } from './content-id.ts';
import type { Descriptor } from './descriptor.ts';
import { NO_PARENT } from './descriptor.ts';
import { besideTheImage } from './other-names.ts';

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
  let checked: Node | undefined;
  const parent = await context.openNamed('backing', {
    filename: hint,
    format: 'vmdk',
    roles: Role.cow,
    writable: false,
    alternatives: besideTheImage(hint),
    verify: (node) => {
      checked = node;
      return mismatch(node, parentCid);
    },
  });
  if (parent !== undefined && parent.node !== checked) {
    const wrong = await mismatch(parent.node, parentCid);
    if (wrong !== undefined) context.warn(wrong);
  }
  return parent;
}

/** What is wrong with a parent. One of another format has no content ID: whoever gave it answers for it. */
async function mismatch(parent: Node, wanted: number): Promise<string | undefined> {
  if (parent.driver.name !== 'vmdk') return undefined;
  const info = await parent.impl.info?.();
  const cid = info?.formatSpecific?.['cid'];
  if (typeof cid !== 'number' || cid === wanted) return undefined;
  return `parentCID is ${hexadecimal(wanted, 8)}, the CID of the parent is ${hexadecimal(cid, 8)} (it was written to since)`;
}
