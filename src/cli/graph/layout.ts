/**
 * A layered drawing of a graph without cycles:
 *
 *   1. layers: everything stands below all that hold it (longest path)
 *   2. edges over several layers get a bend in each layer between
 *   3. order within a layer: sweeps that put each item near the middle of its neighbours
 *   4. places: each item is drawn towards its neighbours as far as those beside it let it
 */
export interface Box {
  readonly id: string;
  readonly width: number;
  readonly height: number;
}

export interface Line {
  readonly from: string;
  readonly to: string;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  /** The middle of each box. */
  readonly places: ReadonlyMap<string, Point>;
  /** The points of each line, in the order of the lines given. */
  readonly lines: readonly (readonly Point[])[];
}

interface Item {
  readonly width: number;
  readonly height: number;
  readonly above: Item[];
  readonly below: Item[];
  layer: number;
  x: number;
  y: number;
}

const GAP = 28;
const LAYER_GAP = 78;
const MARGIN = 16;
const SWEEPS = 8;

export function layOut(boxes: readonly Box[], lines: readonly Line[]): Layout {
  const items = new Map(boxes.map((box) => [box.id, newItem(box.width, box.height)]));
  const known = lines.map(({ from, to }) => ({ from: items.get(from), to: items.get(to) }));
  setLayers([...items.values()], known);
  const chains = known.map(({ from, to }) => (from === undefined || to === undefined ? [] : chain(from, to)));
  const layers = toLayers(new Set([...items.values(), ...chains.flat()]));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) order(layers, sweep % 2 === 0);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) place(layers, sweep % 2 === 0);
  const size = settle(layers);
  return {
    ...size,
    places: new Map([...items].map(([id, { x, y }]) => [id, { x, y }])),
    lines: chains.map(points),
  };
}

function newItem(width: number, height: number): Item {
  return { width, height, above: [], below: [], layer: 0, x: 0, y: 0 };
}

type Known = { readonly from: Item | undefined; readonly to: Item | undefined };

/** As many rounds as there are items suffice where there is no cycle, and end where there is one. */
function setLayers(items: readonly Item[], lines: readonly Known[]): void {
  let changed = true;
  for (let round = 0; changed && round < items.length; round += 1) {
    changed = false;
    for (const { from, to } of lines) {
      if (from === undefined || to === undefined || to.layer > from.layer) continue;
      to.layer = from.layer + 1;
      changed = true;
    }
  }
}

/** Both ends with a bend in each layer between, linked. */
function chain(from: Item, to: Item): Item[] {
  const all = [from];
  for (let layer = from.layer + 1; layer < to.layer; layer += 1) all.push({ ...newItem(8, 0), layer });
  all.push(to);
  for (const [index, item] of all.entries()) {
    const next = all[index + 1];
    if (next === undefined) break;
    item.below.push(next);
    next.above.push(item);
  }
  return all;
}

function toLayers(items: ReadonlySet<Item>): Item[][] {
  const layers: Item[][] = [];
  for (const item of items) (layers[item.layer] ??= []).push(item);
  const filled = layers.filter((layer) => layer !== undefined);
  for (const layer of filled) spread(layer);
  return filled;
}

/** Side by side, in order. */
function spread(layer: readonly Item[]): void {
  let x = 0;
  for (const item of layer) {
    item.x = x + item.width / 2;
    x += item.width + GAP;
  }
}

function order(layers: readonly Item[][], down: boolean): void {
  for (const layer of down ? layers : layers.toReversed()) {
    const wanted = new Map(layer.map((item) => [item, middle(item, down)]));
    layer.sort((one, other) => (wanted.get(one) ?? 0) - (wanted.get(other) ?? 0));
    spread(layer);
  }
}

function middle(item: Item, down: boolean): number {
  const near = down ? item.above : item.below;
  return near.length === 0 ? item.x : near.reduce((sum, { x }) => sum + x, 0) / near.length;
}

/** Draws items towards the middle of all their neighbours; who comes too near to the one on the left is pushed right. */
function place(layers: readonly Item[][], down: boolean): void {
  for (const layer of down ? layers : layers.toReversed()) {
    const wanted = layer.map((item) => middle(item, down));
    const left = push(layer, wanted);
    const mirrored = push(
      layer.toReversed(),
      wanted.toReversed().map((x) => -x),
    ).map((x) => -x);
    const right = mirrored.toReversed();
    for (const [index, item] of layer.entries()) item.x = ((left[index] ?? 0) + (right[index] ?? 0)) / 2;
  }
}

/** The wanted places, each as far right as it takes to stay clear of the one before. */
function push(layer: readonly Item[], wanted: readonly number[]): number[] {
  let edge = -Infinity;
  return layer.map((item, index) => {
    const x = Math.max(wanted[index] ?? 0, edge + item.width / 2);
    edge = x + item.width / 2 + GAP;
    return x;
  });
}

/** Heights of the layers, and everything moved so that it begins at the margin. */
function settle(layers: readonly Item[][]): { width: number; height: number } {
  const all = layers.flat();
  const left = Math.min(...all.map(({ x, width }) => x - width / 2), 0);
  const right = Math.max(...all.map(({ x, width }) => x + width / 2), 0);
  let y = MARGIN;
  for (const layer of layers) {
    const height = Math.max(...layer.map((item) => item.height));
    for (const item of layer) {
      item.x += MARGIN - left;
      item.y = y + height / 2;
    }
    y += height + LAYER_GAP;
  }
  return { width: right - left + 2 * MARGIN, height: Math.max(2 * MARGIN, y - LAYER_GAP + MARGIN) };
}

/** From the bottom of the first box through the bends to the top of the last one. */
function points(items: readonly Item[]): Point[] {
  return items.map(({ x, y, height }, index) => {
    if (index === 0) return { x, y: y + height / 2 };
    return index === items.length - 1 ? { x, y: y - height / 2 } : { x, y };
  });
}
