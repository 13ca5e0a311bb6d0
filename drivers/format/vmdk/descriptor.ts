/**
 * The text that describes a VMDK: pure, from bytes to values. It comes from strangers, so every line is checked and
 * nothing is taken for granted: neither that a line ends, nor that a number is one.
 *
 * Bytes are looked at as Latin-1, which keeps each at its place; only file names are decoded as `encoding` says.
 */
import { refuseImage } from '../../../src/block/refuse.ts';
import { extentLine, isExtentLine } from './extent-line.ts';
import type { ExtentLine } from './extent-line.ts';

export const MAX_DESCRIPTOR = 1024 * 1024;
const MAX_EXTENTS = 32768;
export const NO_PARENT = 0xffffffff;

export interface Descriptor {
  /** Content identifier; 0xffffffff when there is none. */
  readonly cid: number;
  /** The parent's when this was made; 0xffffffff without a parent. */
  readonly parentCid: number;
  readonly createType: string;
  readonly parentFileNameHint: string | undefined;
  readonly extents: readonly ExtentLine[];
  /** Every `key = value`, keys in lower case, values without quotes. */
  readonly entries: ReadonlyMap<string, string>;
}

/** Where the digits of a value stand, in bytes from the start of the text. */
export interface DigitSpan {
  readonly at: number;
  readonly length: number;
}

/** Whether a file begins as a descriptor does: comments, among them the signature, or entries that only it has. */
export function isDescriptor(head: Buffer): boolean {
  const text = textOf(head.subarray(0, 4096));
  if (!/^[\s#a-z]/i.test(text)) return false;
  for (const line of text.split('\n', 64)) {
    const content = line.trim();
    if (/^# *disk descriptor *file/i.test(content)) return true;
    if (content !== '' && !content.startsWith('#')) {
      return /^version *= *[123]$/i.test(content) && /^(create|parent)[a-z]* *=/im.test(text);
    }
  }
  return false;
}

export function parseDescriptor(bytes: Buffer, subject: string): Descriptor {
  const text = textOf(bytes);
  const entries = new Map<string, string>();
  const lines: ExtentLine[] = [];
  const decoder = decoderFor(text);
  for (const [index, line] of text.split('\n').entries()) {
    const content = line.trim();
    if (content === '' || content.startsWith('#')) continue;
    if (isExtentLine(content)) {
      if (lines.length >= MAX_EXTENTS)
        refuseImage(subject, `it has more than ${MAX_EXTENTS} extents`, 'that is too many');
      lines.push(extentLine(content, { number: index + 1, subject, decode: decoder }));
      continue;
    }
    const equals = content.indexOf('=');
    if (equals <= 0) continue;
    const key = content.slice(0, equals).trim().toLowerCase();
    if (!entries.has(key)) entries.set(key, unquoted(content.slice(equals + 1).trim()));
  }
  checkVersion(entries.get('version'), subject);
  const hint = entries.get('parentfilenamehint');
  return {
    cid: contentId(entries, 'cid', subject),
    parentCid: contentId(entries, 'parentcid', subject),
    createType: entries.get('createtype') ?? '',
    parentFileNameHint: hint === undefined || hint === '' ? undefined : decoder(hint),
    extents: lines,
    entries,
  };
}

/** The hexadecimal digits of the first value of `key`; undefined where there are none. */
export function findDigits(bytes: Buffer, key: string): DigitSpan | undefined {
  const text = textOf(bytes);
  for (let start = 0; start < text.length;) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(start, Math.min(end, start + 256));
    const match = /^[ \t]*([\w.]+)[ \t]*=[ \t]*"?([0-9a-f]+)"?[ \t\r]*$/i.exec(line);
    if (match?.[1]?.toLowerCase() === key.toLowerCase() && match[2] !== undefined) {
      return { at: start + line.lastIndexOf(match[2]), length: match[2].length };
    }
    start = end + 1;
  }
  return undefined;
}

/** What stands before the padding. Editors may have put a byte order mark in front: it is shown as spaces. */
export function textOf(bytes: Buffer): string {
  const nul = bytes.indexOf(0);
  return bytes.toString('latin1', 0, nul < 0 ? bytes.length : nul).replace(/^\xef\xbb\xbf/, '   ');
}

function decoderFor(text: string): (latin1: string) => string {
  const name = /^[ \t]*encoding[ \t]*=[ \t]*"?([\w.:-]{1,40})/im.exec(text)?.[1] ?? 'utf-8';
  const decoder = textDecoder(name) ?? new TextDecoder();
  return (latin1) => decoder.decode(Buffer.from(latin1, 'latin1'));
}

/** Undefined for an encoding that this Node does not know; names are taken as UTF-8 then. */
function textDecoder(name: string): InstanceType<typeof TextDecoder> | undefined {
  try {
    return new TextDecoder(name);
  } catch {
    return undefined;
  }
}

function unquoted(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
}

function checkVersion(version: string | undefined, subject: string): void {
  if (version === undefined || /^[1-4]$/.test(version)) return;
  refuseImage(subject, `the descriptor's version is "${version.slice(0, 40)}"`, 'must be 1 to 4');
}

function contentId(entries: ReadonlyMap<string, string>, key: string, subject: string): number {
  const value = entries.get(key);
  if (value === undefined) return NO_PARENT;
  if (/^[0-9a-f]{1,8}$/i.test(value)) return Number.parseInt(value, 16);
  return refuseImage(subject, `${key} is "${value.slice(0, 40)}"`, 'must be 1 to 8 hexadecimal digits');
}
