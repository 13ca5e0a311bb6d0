import { refuseImage } from '../../../src/block/refuse.ts';

/** One element of a parsed document: its name with what is inside, or text under '#text'. */
type Item = Readonly<Record<string, unknown>>;

/** The block tables ("blkx") of an image, from the property list of its resource fork. The parser is loaded when needed. */
export async function tablesOfXml(xml: string, subject: string): Promise<Buffer[]> {
  const { XMLParser } = await import('fast-xml-parser');
  const parser = new XMLParser({
    preserveOrder: true,
    processEntities: false,
    ignoreAttributes: true,
    ignoreDeclaration: true,
    parseTagValue: false,
    trimValues: true,
  });
  let root: unknown;
  try {
    root = parser.parse(xml);
  } catch (error) {
    refuseImage(subject, `the property list is no XML (${String(error)})`, 'must be one');
  }
  const top = inside(inside(root, 'plist'), 'dict');
  const blocks = valueOf(valueOf(top, 'resource-fork', 'dict'), 'blkx', 'array');
  if (blocks === undefined)
    refuseImage(subject, 'the property list names no resource-fork/blkx', 'must hold the tables');
  return blocks
    .map((item) => textOf(valueOf(children(item, 'dict'), 'Data', 'data')))
    .filter((text) => text !== undefined)
    .map((text) => Buffer.from(text, 'base64'));
}

function isItem(value: unknown): value is Item {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function itemsOf(value: unknown): Item[] | undefined {
  return Array.isArray(value) ? value.filter(isItem) : undefined;
}

function children(item: Item | undefined, name: string): Item[] | undefined {
  return item === undefined ? undefined : itemsOf(item[name]);
}

/** The content of the first element of that name in a list. */
function inside(list: unknown, name: string): Item[] | undefined {
  const found = itemsOf(list)?.find((item) => Object.hasOwn(item, name));
  return children(found, name);
}

/** In a dictionary each value follows its key. */
function valueOf(dict: readonly Item[] | undefined, key: string, kind: string): Item[] | undefined {
  const index = dict?.findIndex((item) => textOf(children(item, 'key')) === key) ?? -1;
  return index < 0 ? undefined : children(dict?.[index + 1], kind);
}

function textOf(list: readonly Item[] | undefined): string | undefined {
  const text = list?.find((item) => Object.hasOwn(item, '#text'))?.['#text'];
  return typeof text === 'string' ? text : undefined;
}
