/** Parent locators: where a differencing image says its parent is, once for each platform. */
import type { Child } from '../../../src/block/child.ts';
import { readU64BE, writeU64BE } from '../../../src/util/bytes.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import { LOCATORS_AT } from './dynamic-header.ts';

const COUNT = 8;
const ENTRY = 24;
const DATA_MAX = 64 * 1024;

export interface Locator {
  /** Platform code as text: W2ru, W2ku, MacX, Wi2r, Wi2k ... */
  readonly platform: string;
  readonly length: number;
  readonly offset: number;
}

/** The locators that are in use and can be read. */
export function decodeLocators(header: Buffer, fileSize: number): Locator[] {
  const locators: Locator[] = [];
  for (let index = 0; index < COUNT; index += 1) {
    const at = LOCATORS_AT + index * ENTRY;
    const length = header.readUInt32BE(at + 8);
    const offset = readU64BE(header, at + 16);
    const usable =
      header.readUInt32BE(at) !== 0 && length > 0 && length <= DATA_MAX && offset + length <= fileSize;
    if (usable) locators.push({ platform: header.toString('latin1', at, at + 4), length, offset });
  }
  return locators;
}

/** Writes locator `index` into a dynamic header. `space` is what the file keeps for the data, in bytes. */
export function encodeLocator(header: Buffer, index: number, locator: Locator & { space: number }): void {
  const at = LOCATORS_AT + index * ENTRY;
  header.write(locator.platform, at, 4, 'latin1');
  header.writeUInt32BE(locator.space, at + 4);
  header.writeUInt32BE(locator.length, at + 8);
  writeU64BE(header, locator.offset, at + 16);
}

/** Names under which the parent may be found, the most telling first: relative, by its name alone, absolute. */
export async function parentNames(
  file: Child,
  locators: readonly Locator[],
  header: DynamicHeader,
): Promise<string[]> {
  const relative: string[] = [];
  const absolute: string[] = [];
  for (const locator of locators) {
    const data = Buffer.alloc(locator.length);
    await file.read(data, locator.offset);
    const name = nameOf(locator.platform, data);
    if (name === undefined) continue;
    if (isAbsolute(name)) absolute.push(name);
    else relative.push(name);
  }
  if (header.parent_name !== '') relative.push(portable(header.parent_name));
  const bare = [...relative, ...absolute].map((name) => name.slice(name.lastIndexOf('/') + 1));
  const rooted = absolute.filter((name) => /^\/(?!\/)/.test(name));
  return [...new Set([...relative.filter((name) => !isAbsolute(name)), ...bare, ...rooted])].filter(
    (name) => name !== '',
  );
}

function nameOf(platform: string, data: Buffer): string | undefined {
  if (platform === 'W2ru' || platform === 'W2ku') return portable(untilNul(data.toString('utf16le')));
  if (platform === 'Wi2r' || platform === 'Wi2k') return portable(untilNul(data.toString('latin1')));
  if (platform !== 'MacX') return undefined;
  const text = untilNul(data.toString('utf8'));
  try {
    return decodeURIComponent(text.replace(/^file:\/\/(?:localhost)?/, ''));
  } catch {
    return text;
  }
}

/** A Windows path with slashes, its drive kept so that it is seen to be absolute. */
function portable(name: string): string {
  return name.replaceAll('\\', '/').replace(/^(?:\.\/)+/, '');
}

const isAbsolute = (name: string): boolean => name.startsWith('/') || /^[a-z]:/i.test(name);

const untilNul = (text: string): string => text.split('\0')[0] ?? '';
