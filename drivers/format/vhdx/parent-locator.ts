import { refuseImage } from '../../../src/block/refuse.ts';
import { normalizeGuid, readGuidMixed, writeGuidMixed } from '../../../src/util/guid.ts';

/** [MS-VHDX] 2.6.2.6: where the parent is, in keys and values of UTF-16. */
const VHDX_LOCATOR = 'b04aefb7-d19e-4a81-b789-25b8e9445913';
const HEADER = 20;
const ENTRY = 12;

export interface ParentLocator {
  /** Values of the parent's DataWriteGuid that are accepted. */
  readonly linkages: readonly string[];
  readonly entries: ReadonlyMap<string, string>;
}

export function decodeLocator(bytes: Buffer, subject: string): ParentLocator {
  const type = readGuidMixed(bytes, 0);
  if (type !== VHDX_LOCATOR)
    refuseImage(subject, `parent locator type is {${type}}`, `must be {${VHDX_LOCATOR}}`, 'ENOTSUP');
  const count = bytes.readUInt16LE(18);
  if (HEADER + count * ENTRY > bytes.length)
    refuseImage(subject, `the parent locator has ${count} entries`, `must fit its ${bytes.length} bytes`);
  const entries = new Map<string, string>();
  for (let index = 0; index < count; index += 1) {
    const at = HEADER + index * ENTRY;
    const text = (offsetAt: number, lengthAt: number): string => {
      const offset = bytes.readUInt32LE(at + offsetAt);
      const length = bytes.readUInt16LE(at + lengthAt);
      if (offset + length > bytes.length)
        refuseImage(
          subject,
          `parent locator entry ${index} ends at ${offset + length}`,
          `must be inside its ${bytes.length} bytes`,
        );
      return bytes.toString('utf16le', offset, offset + length);
    };
    entries.set(text(0, 8), text(4, 10));
  }
  const linkages = ['parent_linkage', 'parent_linkage2'].flatMap(
    (key) => normalizeGuid(entries.get(key) ?? '') ?? [],
  );
  if (linkages.length === 0)
    refuseImage(
      subject,
      `parent_linkage is ${JSON.stringify(entries.get('parent_linkage'))}`,
      'must be the GUID of the parent',
    );
  return { linkages, entries };
}

export function encodeLocator(entries: ReadonlyMap<string, string>): Buffer {
  const header = Buffer.alloc(HEADER + entries.size * ENTRY);
  writeGuidMixed(header, VHDX_LOCATOR, 0);
  header.writeUInt16LE(entries.size, 18);
  const texts: Buffer[] = [];
  let end = header.length;
  const append = (text: string): { offset: number; length: number } => {
    const bytes = Buffer.from(text, 'utf16le');
    texts.push(bytes);
    end += bytes.length;
    return { offset: end - bytes.length, length: bytes.length };
  };
  let at = HEADER;
  for (const [key, value] of entries) {
    const [name, content] = [append(key), append(value)];
    header.writeUInt32LE(name.offset, at);
    header.writeUInt32LE(content.offset, at + 4);
    header.writeUInt16LE(name.length, at + 8);
    header.writeUInt16LE(content.length, at + 10);
    at += ENTRY;
  }
  return Buffer.concat([header, ...texts]);
}

/** Names under which the parent may be found, in the order that the specification asks for; then by its name alone. */
export function parentNames({ entries }: ParentLocator): string[] {
  const names = ['relative_path', 'volume_path', 'absolute_win32_path'].flatMap((key) => {
    const path = entries.get(key);
    return path === undefined || path === '' ? [] : [path.replaceAll('\\', '/').replace(/^(?:\.\/)+/, '')];
  });
  const here = names.filter((name) => !/^(?:\/\/|[a-z]:)/i.test(name));
  const bare = names.map((name) => name.slice(name.lastIndexOf('/') + 1));
  return [...new Set([...here, ...bare])].filter((name) => name !== '');
}
