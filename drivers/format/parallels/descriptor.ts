/** DiskDescriptor.xml of a .hdd folder (specification: "Parallels disk format"), as facts. */
import { refuseImage } from '../../../src/block/refuse.ts';

/** Guid of the image that is written to, unless the descriptor names another. */
export const TOP_GUID = '{5fbaabe3-6958-40ff-92a7-860e329aab41}';
export const NO_GUID = '{00000000-0000-0000-0000-000000000000}';
const CHAIN_MAX = 200;
const STORAGES_MAX = 1000;

export interface DescribedImage {
  readonly guid: string;
  readonly type: 'Plain' | 'Compressed';
  readonly file: string;
}

export interface DescribedStorage {
  /** Sectors of the disk, the end not included. */
  readonly start: number;
  readonly end: number;
  /** The chain: the image that is written to first, the root last. */
  readonly images: readonly DescribedImage[];
}

export interface Descriptor {
  /** Sectors. */
  readonly size: number;
  readonly storages: readonly DescribedStorage[];
}

type Element = Readonly<Record<string, unknown>>;

/** Reads a descriptor. Refuses what breaks its rules and what is not supported. The parser is loaded when needed. */
export async function readDescriptor(xml: string, subject: string): Promise<Descriptor> {
  const { XMLParser } = await import('fast-xml-parser');
  const parser = new XMLParser({
    processEntities: false,
    parseTagValue: false,
    isArray: isList,
    attributeNamePrefix: '@',
    ignoreAttributes: false,
  });
  let document: unknown;
  try {
    document = parser.parse(xml);
  } catch (error) {
    refuseImage(subject, `it is no XML (${String(error)})`, 'must be a disk descriptor');
  }
  const root = below(document, 'Parallels_disk_image');
  if (root === undefined)
    refuseImage(subject, 'it has no element Parallels_disk_image', 'must be a disk descriptor');
  const version = textOf(root, '@Version');
  if (version !== '1.0') refuseImage(subject, `Version is ${version}`, 'must be 1.0', 'ENOTSUP');
  const parameters = below(root, 'Disk_Parameters');
  checkParameters(parameters, subject);
  const size = numberOf(parameters, 'Disk_size', subject);
  const chain = readChain(below(root, 'Snapshots'), subject);
  const storages = listOf(below(root, 'StorageData'), 'Storage').map((storage) =>
    readStorage(storage, chain, subject),
  );
  checkStorages(storages, size, subject);
  return { size, storages };
}

const isList = (name: string): boolean => name === 'Storage' || name === 'Image' || name === 'Shot';

function checkParameters(parameters: Element | undefined, subject: string): void {
  const padding = textOf(parameters, 'Padding') || '0';
  if (padding !== '0') refuseImage(subject, `Padding is ${padding}`, 'must be 0', 'ENOTSUP');
  const engine = textOf(below(parameters, 'Encryption'), 'Engine');
  if (engine !== '' && engine !== NO_GUID)
    refuseImage(subject, `Encryption/Engine is ${engine}`, 'encryption is not supported', 'ENOTSUP');
}

/** Guids from the top to the root; undefined without snapshots. */
function readChain(snapshots: Element | undefined, subject: string): string[] | undefined {
  const shots = listOf(snapshots, 'Shot');
  if (shots.length === 0) return undefined;
  const parents = new Map(shots.map((shot) => [textOf(shot, 'GUID'), textOf(shot, 'ParentGUID')]));
  const top = textOf(snapshots, 'TopGUID') || TOP_GUID;
  const chain: string[] = [];
  for (let guid = top; guid !== NO_GUID;) {
    const parent = parents.get(guid);
    if (parent === undefined)
      refuseImage(subject, `no Shot has the GUID ${guid}`, `it is wanted by ${chain.at(-1) ?? 'the top'}`);
    if (chain.includes(guid))
      refuseImage(subject, `the snapshots from ${guid} on are a loop`, 'must end at a root');
    chain.push(guid);
    if (chain.length > CHAIN_MAX)
      refuseImage(subject, `the chain has over ${CHAIN_MAX} snapshots`, 'must have less');
    guid = parent;
  }
  return chain;
}

function readStorage(
  storage: Element,
  chain: readonly string[] | undefined,
  subject: string,
): DescribedStorage {
  const all = listOf(storage, 'Image').map((image) => readImage(image, subject));
  const [only] = all;
  if (chain === undefined && (only === undefined || all.length > 1)) {
    refuseImage(
      subject,
      `a storage has ${all.length} images and there are no snapshots`,
      'must be one image',
    );
  }
  const wanted = chain ?? [only?.guid ?? ''];
  const images = wanted.map((guid) => {
    const image = all.find((one) => one.guid === guid);
    return (
      image ?? refuseImage(subject, `a storage has no image with the GUID ${guid}`, 'the snapshots want it')
    );
  });
  const overlay = images.slice(0, -1).find(({ type }) => type === 'Plain');
  if (overlay !== undefined)
    refuseImage(subject, `the overlay "${overlay.file}" is of type Plain`, 'must be Compressed');
  return { start: numberOf(storage, 'Start', subject), end: numberOf(storage, 'End', subject), images };
}

function readImage(image: Element, subject: string): DescribedImage {
  const type = textOf(image, 'Type');
  const file = textOf(image, 'File');
  if (type !== 'Plain' && type !== 'Compressed')
    refuseImage(subject, `Type is ${JSON.stringify(type)}`, 'must be Plain or Compressed');
  if (file === '') refuseImage(subject, 'an image has no File', 'must name one');
  return { guid: textOf(image, 'GUID'), type, file };
}

function checkStorages(storages: DescribedStorage[], size: number, subject: string): void {
  if (storages.length > STORAGES_MAX)
    refuseImage(subject, `it has ${storages.length} storages`, `must have at most ${STORAGES_MAX}`);
  storages.sort((one, other) => one.start - other.start);
  let at = 0;
  for (const { start, end } of storages) {
    if (start !== at || end <= start)
      refuseImage(subject, `a storage lies from sector ${start} to ${end}`, `must begin at ${at}`);
    at = end;
  }
  if (at !== size || size === 0)
    refuseImage(subject, `Disk_size is ${size}`, `must be ${at}, where the storages end`);
}

function isElement(value: unknown): value is Element {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function below(element: unknown, name: string): Element | undefined {
  const value = isElement(element) ? element[name] : undefined;
  return isElement(value) ? value : undefined;
}

function listOf(element: Element | undefined, name: string): Element[] {
  const value = element?.[name];
  return Array.isArray(value) ? value.filter(isElement) : [];
}

/** Text of an element or attribute, '' without one. */
function textOf(element: Element | undefined, name: string): string {
  const value = element?.[name];
  if (typeof value === 'string') return value.trim();
  const text = isElement(value) ? value['#text'] : undefined;
  return typeof text === 'string' ? text.trim() : '';
}

function numberOf(element: Element | undefined, name: string, subject: string): number {
  const text = textOf(element, name);
  const value = /^\d{1,13}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value))
    refuseImage(subject, `${name} is ${JSON.stringify(text)}`, 'must be a number of sectors');
  return value;
}
