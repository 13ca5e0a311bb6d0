/** Directories in bytes. Microsoft's FAT specification, "FAT Directory Structure". */
import { SLOT } from './geometry.ts';
import { longSlots, shortNameSum } from './names.ts';
import type { FolderItem, Item } from './tree.ts';

const Attribute = { readOnly: 0x01, label: 0x08, folder: 0x10, file: 0x20 } as const;
/** A first byte that would mean "deleted" is stored as another. */
const KANJI_E5 = 0x05;

interface Short {
  readonly name: string;
  readonly attributes: number;
  readonly cluster: number;
  readonly size: number;
  readonly mtimeMs: number;
}

/** The slots of a folder, label, `.` and `..` included. */
export function encodeFolder(folder: FolderItem, label: string, mtimeMs: number): Buffer {
  const slots: Buffer[] = [];
  if (folder.parent === undefined) {
    if (label !== '') slots.push(shortSlot(labelEntry(label, mtimeMs)));
  } else {
    const { parent } = folder;
    const { mtimeMs: own = mtimeMs } = folder.entry ?? {};
    const up = parent.parent === undefined ? 0 : parent.cluster;
    slots.push(shortSlot(folderEntry('.', folder.cluster, own)), shortSlot(folderEntry('..', up, own)));
  }
  for (const item of folder.items) slots.push(...itemSlots(item));
  return Buffer.concat(slots, slots.length * SLOT);
}

function labelEntry(label: string, mtimeMs: number): Short {
  return { name: label.padEnd(11), attributes: Attribute.label, cluster: 0, size: 0, mtimeMs };
}

function folderEntry(name: string, cluster: number, mtimeMs: number): Short {
  return { name: name.padEnd(11), attributes: Attribute.folder, cluster, size: 0, mtimeMs };
}

function itemSlots(item: Item): Buffer[] {
  if (item.name === undefined || item.entry === undefined) return [];
  const { short, long } = item.name;
  const slot = shortSlot({
    name: short,
    attributes: item.isFolder ? Attribute.folder : Attribute.file,
    cluster: item.cluster,
    size: item.entry.size,
    mtimeMs: item.entry.mtimeMs,
  });
  return long === undefined ? [slot] : [...longSlots(long, shortNameSum(short)), slot];
}

function shortSlot({ name, attributes, cluster, size, mtimeMs }: Short): Buffer {
  const slot = Buffer.alloc(SLOT);
  slot.write(name, 0, 11, 'latin1');
  if (slot[0] === 0xe5) slot[0] = KANJI_E5;
  slot.writeUInt8(attributes, 11);
  const { date, time } = dosTime(mtimeMs);
  slot.writeUInt16LE(time, 14);
  slot.writeUInt16LE(date, 16);
  slot.writeUInt16LE(date, 18);
  slot.writeUInt16LE(Math.floor(cluster / 65536), 20);
  slot.writeUInt16LE(time, 22);
  slot.writeUInt16LE(date, 24);
  slot.writeUInt16LE(cluster % 65536, 26);
  slot.writeUInt32LE(size, 28);
  return slot;
}

/** Local time in steps of two seconds, from 1980 to 2107. */
function dosTime(mtimeMs: number): { date: number; time: number } {
  const when = new Date(mtimeMs);
  const year = Math.min(127, Math.max(0, when.getFullYear() - 1980));
  const date = year * 512 + (when.getMonth() + 1) * 32 + when.getDate();
  const time = when.getHours() * 2048 + when.getMinutes() * 32 + Math.floor(when.getSeconds() / 2);
  return { date, time };
}
