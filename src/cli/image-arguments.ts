/** What every command that opens an image takes, and how it becomes the options tree of a node. */
import path from 'node:path';
import { bool, choice, optional, text } from '../block/schema.ts';
import type { GatePolicy } from '../block/gate.ts';
import type { Options, OptionValues } from './command.ts';
import { UsageError } from './command.ts';
import { parseKeyValues } from './key-values.ts';
import { descriptorOf } from '../sys/folders.ts';
import { SECRET_OPTIONS } from './secrets.ts';
import type { SecretValues } from './secrets.ts';

export const IMAGE_ARGUMENT = {
  name: 'image',
  summary: 'Image file or device, or json:{...} with the options of a node',
} as const;

export const IMAGE_OPTIONS = {
  format: {
    schema: optional(text('Format of the image; found out from its content when left out')),
    value: 'name',
    short: 'f',
  },
  'image-opts': {
    schema: optional(
      bool('The image is given by the options of its node: driver=qcow2,file.filename=disk.qcow2'),
      false,
    ),
  },
  'force-share': {
    schema: optional(
      bool('Read the image though another program has it locked for writing; implies read-only'),
      false,
    ),
    short: 'U',
  },
  follow: {
    schema: optional(
      choice(
        ['rooted', 'anywhere', 'deny'],
        'Files that the image names: backing files anywhere and the rest beside the image (rooted, the default), ' +
          'anywhere, or none at all (deny)',
      ),
      'rooted',
    ),
    value: 'where',
  },
  ...SECRET_OPTIONS,
} as const satisfies Options;

export type ImageValues = Omit<OptionValues<typeof IMAGE_OPTIONS>, keyof SecretValues> & SecretValues;

/** The image as one word: what was given with --image-opts becomes json:{...}. */
export function imageWord(image: string, values: Pick<ImageValues, 'image-opts' | 'format'>): string {
  if (!values['image-opts']) return image;
  if (values.format !== undefined)
    throw new UsageError('--format does not go with --image-opts, give driver=... among the options');
  return `json:${JSON.stringify(parseKeyValues(image))}`;
}

/** The image as a node's options. `resolve` makes file names independent of where the user stands, if need be. */
export function imageTree(
  image: string,
  values: ImageValues,
  resolve: (name: string) => string = (name) => name,
): Record<string, unknown> {
  const share = values['force-share'] ? { 'force-share': true, 'read-only': true } : {};
  const driver = values.format === undefined ? {} : { driver: values.format };
  // What is on a web server can't be written: nobody has to say so.
  const web = /^https?:\/\//.test(image) ? { 'auto-read-only': true } : {};
  return { ...web, ...parseImage(imageWord(image, values), resolve), ...driver, ...share };
}

/** The same, with other programs kept from writing to the image while it is open. */
export function exclusively(tree: Record<string, unknown>): Record<string, unknown> {
  const { file } = tree;
  if (typeof file !== 'object' || file === null || !('filename' in file) || 'driver' in file) return tree;
  const isLocal = typeof file.filename === 'string' && !/^[a-z][a-z0-9+.-]*:/.test(file.filename);
  return isLocal ? { ...tree, file: { 'share-rw': false, ...file } } : tree;
}

/** The absolute form of a file name; names with a protocol (`nbd://host`) stay as they are. */
export function absoluteName(name: string): string {
  const words = /^fat:(?:floppy:|rw:|\d+:)*/.exec(name)?.[0];
  if (words !== undefined) return words + path.resolve(name.slice(words.length));
  return /^[a-z][a-z0-9+.-]*:/.test(name) ? name : path.resolve(name);
}

/** The name that messages and lists show. */
export function imageName(image: string): string {
  return absoluteName(image);
}

export function gatePolicy(values: ImageValues): Pick<GatePolicy, 'follow'> {
  return { follow: values.follow };
}

function parseImage(image: string, resolve: (name: string) => string): Record<string, unknown> {
  if (!image.startsWith('json:')) return { file: { filename: resolve(descriptorOf(image)) } };
  return resolveNames(parseJson(image.slice('json:'.length)), resolve);
}

function parseJson(text: string): Record<string, unknown> {
  try {
    const tree: unknown = JSON.parse(text);
    if (typeof tree === 'object' && tree !== null && !Array.isArray(tree)) return { ...tree };
  } catch (error) {
    throw new UsageError(`the image is not valid JSON: ${error instanceof Error ? error.message : ''}`);
  }
  throw new UsageError('the image must be a JSON object of options, such as json:{"driver": "qcow2", ...}');
}

/** Options that are names of files and folders of the host, in any driver. */
const NAMES = /(^|\.)(filename|dir|config)$/;

/** Options with every name of a file made independent of where the user stands. */
export function resolveNames(
  tree: Record<string, unknown>,
  resolve: (name: string) => string,
): Record<string, unknown> {
  const resolved = Object.entries(tree).map(([key, value]): [string, unknown] => {
    if (typeof value === 'string' && NAMES.test(key)) return [key, resolve(value)];
    return [key, resolveWithin(value, resolve)];
  });
  return Object.fromEntries(resolved);
}

function resolveWithin(value: unknown, resolve: (name: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => resolveWithin(item, resolve));
  return typeof value === 'object' && value !== null ? resolveNames({ ...value }, resolve) : value;
}
