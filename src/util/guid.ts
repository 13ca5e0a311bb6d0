/**
 * GUIDs as 16 bytes and as text. Microsoft and VirtualBox store the first three groups little-endian ("mixed"), VHD
 * stores all of it in the order in which it is written.
 */
export const NIL_GUID = '00000000-0000-0000-0000-000000000000';
export const GUID_LENGTH = 16;

/** The text of a GUID stored in mixed order, in lower case and without braces. */
export function readGuidMixed(bytes: Buffer, at: number): string {
  return readGuid(swapGroups(bytes.subarray(at, at + GUID_LENGTH)), 0);
}

/** The text of a GUID stored as it is written, in lower case and without braces. */
export function readGuid(bytes: Buffer, at: number): string {
  const hex = bytes.toString('hex', at, at + GUID_LENGTH);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

export function writeGuidMixed(bytes: Buffer, guid: string, at: number): void {
  swapGroups(parse(guid)).copy(bytes, at);
}

export function writeGuid(bytes: Buffer, guid: string, at: number): void {
  parse(guid).copy(bytes, at);
}

/** A GUID in the form used here, from text with or without braces and in any case; undefined when it is none. */
export function normalizeGuid(text: string): string | undefined {
  const match = /^\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?$/i.exec(text.trim());
  return match?.[1]?.toLowerCase();
}

function parse(guid: string): Buffer {
  return Buffer.from(guid.replaceAll('-', ''), 'hex');
}

function swapGroups(bytes: Buffer): Buffer {
  const swapped = Buffer.from(bytes);
  swapped.subarray(0, 4).reverse();
  swapped.subarray(4, 6).reverse();
  swapped.subarray(6, 8).reverse();
  return swapped;
}
