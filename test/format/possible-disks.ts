/** What a disk and its snapshots may hold when some of what was asked for was refused: it may have been done or not. */
import { ModelDisk } from '../helpers/model-disk.ts';

/** `certain`: it was answered; otherwise every byte of it may have been written or not. */
type Entry =
  | {
      readonly kind: 'bytes';
      readonly offset: number;
      readonly bytes: Buffer;
      readonly certain: boolean;
    }
  | { readonly kind: 'size'; readonly size: number };

type Log = readonly Entry[];

export interface Possible {
  readonly disk: Log;
  readonly snapshots: ReadonlyMap<string, Log>;
}

export type Change =
  | { readonly what: 'bytes'; readonly offset: number; readonly bytes: Buffer; readonly vague?: boolean }
  | { readonly what: 'size'; readonly size: number }
  | { readonly what: 'create' | 'apply' | 'delete'; readonly name: string };

/** What may be there after a change; `done`: it was answered. */
export function after(before: readonly Possible[], change: Change, done: boolean): Possible[] {
  if (change.what === 'bytes') {
    const { offset, bytes, vague = false } = change;
    const entry: Entry = { kind: 'bytes', offset, bytes, certain: done && !vague };
    return before.map(({ disk, snapshots }) => ({ disk: [...disk, entry], snapshots }));
  }
  const changed = before.map((state) => changeWhole(state, change));
  return done ? changed : [...before, ...changed];
}

function changeWhole({ disk, snapshots }: Possible, change: Exclude<Change, { what: 'bytes' }>): Possible {
  if (change.what === 'size') return { disk: [...disk, { kind: 'size', size: change.size }], snapshots };
  const next = new Map(snapshots);
  if (change.what === 'apply') return { disk: snapshots.get(change.name) ?? disk, snapshots };
  if (change.what === 'create') next.set(change.name, disk);
  else next.delete(change.name);
  return { disk, snapshots: next };
}

/** What is wrong with what was found (the disk is under ''), measured by everything it may be; undefined: nothing. */
export function whatIsWrong(
  start: Buffer,
  found: ReadonlyMap<string, Buffer>,
  possible: readonly Possible[],
): string | undefined {
  const wrong = possible.map((state) => wrongIn(start, found, state));
  return wrong.includes(undefined) ? undefined : wrong.join(' and, or else, ');
}

function wrongIn(
  start: Buffer,
  found: ReadonlyMap<string, Buffer>,
  { disk, snapshots }: Possible,
): string | undefined {
  const wanted = ['', ...snapshots.keys()].sort();
  const names = [...found.keys()].sort();
  if (names.join() !== wanted.join()) return `snapshots are ${names.join()}, should be ${wanted.join()}`;
  for (const [name, log] of [['', disk] as const, ...snapshots]) {
    const wrong = wrongBytes(start, found.get(name) ?? Buffer.alloc(0), log);
    if (wrong !== undefined) return `${name === '' ? 'the disk' : `snapshot ${name}`}: ${wrong}`;
  }
  return undefined;
}

interface Layer {
  readonly offset: number;
  readonly bytes: Buffer;
  /** 0 where something certain came later. */
  readonly live: Buffer;
}

function wrongBytes(start: Buffer, actual: Buffer, log: Log): string | undefined {
  const sure = new ModelDisk(start.length);
  sure.write(start, 0);
  const layers: Layer[] = [];
  for (const entry of log) {
    if (entry.kind === 'size') {
      bury(layers, Math.min(sure.size, entry.size), Number.MAX_SAFE_INTEGER);
      sure.resize(entry.size);
    } else if (entry.certain) {
      sure.write(entry.bytes, entry.offset);
      bury(layers, entry.offset, entry.offset + entry.bytes.length);
    } else {
      const { offset, bytes } = entry;
      layers.push({ offset, bytes, live: Buffer.alloc(bytes.length, 1) });
    }
  }
  if (actual.length !== sure.size) return `${actual.length} bytes, should be ${sure.size}`;
  if (actual.equals(sure.bytes)) return undefined;
  for (let at = 0; at < actual.length; at += 1) {
    if (actual[at] === sure.bytes[at]) continue;
    const may = layers.some(
      ({ offset, bytes, live }) => live[at - offset] === 1 && bytes[at - offset] === actual[at],
    );
    if (!may) return `byte ${at} is ${actual[at] ?? -1}, should be ${sure.bytes[at] ?? -1}`;
  }
  return undefined;
}

function bury(layers: readonly Layer[], from: number, to: number): void {
  for (const { offset, live } of layers) {
    if (offset < to && offset + live.length > from)
      live.fill(0, Math.max(0, from - offset), Math.min(live.length, to - offset));
  }
}
