import { FEATURE_KINDS } from './features.ts';
import type { FeatureKind } from './features.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';

/** Specification: "Header extensions". */
export const ExtensionType = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
} as const;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Buffer;
}

/** The extensions in head[start, end), in their order; unknown ones too. */
export function parseExtensions(
  head: Buffer,
  start: number,
  end: number,
  subject: string,
): HeaderExtension[] {
  const found: HeaderExtension[] = [];
  for (let at = start; at + 8 <= end;) {
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === ExtensionType.end) break;
    if (length > end - at - 8) {
      const what = `header extension 0x${type.toString(16)} at ${at} is ${length} bytes long`;
      throw new BlockError(
        'EINVAL',
        `Cannot open image "${subject}": ${what}, must be at most ${end - at - 8}`,
      );
    }
    found.push({ type, data: Buffer.from(head.subarray(at + 8, at + 8 + length)) });
    at += 8 + alignUp(length, 8);
  }
  return found;
}

/** The text of a string extension, undefined without one. */
export function extensionText(extensions: readonly HeaderExtension[], type: number): string | undefined {
  return extensions.find((extension) => extension.type === type)?.data.toString('utf8');
}

const NAME_ENTRY = 48;

/** What the image's own feature name table calls a bit. */
export function featureName(table: Buffer | undefined, kind: FeatureKind, bit: number): string | undefined {
  if (table === undefined) return undefined;
  for (let at = 0; at + NAME_ENTRY <= table.length; at += NAME_ENTRY) {
    if (table[at] !== FEATURE_KINDS.indexOf(kind) || table[at + 1] !== bit) continue;
    const name = table.subarray(at + 2, at + NAME_ENTRY).toString('utf8');
    return name.replace(/\0.*$/s, '');
  }
  return undefined;
}
