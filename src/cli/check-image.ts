import type { CheckOptions, CheckResult } from '../block/driver.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { probeFormat } from '../block/probe.ts';
import { imageTree } from './image-arguments.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { doorTo, openForCommand, withGraph } from './with-graph.ts';

export interface ImageCheck {
  readonly supported: boolean;
  readonly result: CheckResult;
  /** Keys as qemu-img prints them. */
  readonly json: Readonly<Record<string, unknown>>;
}

const UNSUPPORTED = 63;
const NOTHING: CheckResult = {
  corruptions: 0,
  leaks: 0,
  checkErrors: 0,
  corruptionsFixed: 0,
  leaksFixed: 0,
  messages: [],
};

export async function checkImage(
  image: string,
  values: ImageValues,
  repair: CheckOptions['repair'],
): Promise<ImageCheck> {
  const check = async (graph: Graph): Promise<ImageCheck> => {
    const node = await openForCheck(graph, image, values, repair !== 'none');
    const format = node.driver.name;
    if (node.driver.check === undefined) {
      return { supported: false, result: NOTHING, json: { filename: image, format, 'check-errors': 0 } };
    }
    const progress = new Progress('check', 'steps');
    try {
      const result = await node.driver.check(node.impl, {
        repair,
        progress: (done, total) => {
          progress.update(done, total);
        },
      });
      return { supported: true, result, json: toJson(image, format, result) };
    } finally {
      progress.end();
    }
  };
  return withGraph(values, check, true);
}

/** A format whose damaged images are refused or mended when opened has an option against that. */
async function openForCheck(
  graph: Graph,
  image: string,
  values: ImageValues,
  writable: boolean,
): Promise<Node> {
  const tree = imageTree(image, values);
  const name = typeof tree['driver'] === 'string' ? tree['driver'] : await formatOf(graph, tree, image);
  const driver = graph.drivers.get(name);
  const repair = driver !== undefined && 'x-repair' in driver.options ? { 'x-repair': true } : {};
  const options = { driver: name, ...repair };
  return (await openForCommand(graph, image, values, { writable, options })).node;
}

/** The format by the content alone: a damaged image can't be opened without that option. */
async function formatOf(graph: Graph, tree: Record<string, unknown>, image: string): Promise<string> {
  const file = await graph.open({ ...tree, driver: 'raw', 'read-only': true });
  const door = doorTo(graph, file, false);
  const format = await probeFormat(door, image, graph.drivers.values());
  await graph.detach(door);
  await graph.remove(file.name);
  return format;
}

function toJson(filename: string, format: string, result: CheckResult): Record<string, unknown> {
  const counts: Readonly<Record<string, number | undefined>> = {
    'image-end-offset': result.imageEndOffset,
    'total-clusters': result.totalClusters,
    'allocated-clusters': result.allocatedClusters,
    'fragmented-clusters': result.fragmentedClusters,
    'compressed-clusters': result.compressedClusters,
    corruptions: result.corruptions - result.corruptionsFixed,
    leaks: result.leaks - result.leaksFixed,
    'corruptions-fixed': result.corruptionsFixed,
    'leaks-fixed': result.leaksFixed,
  };
  const known = Object.entries(counts).filter(([, value]) => value !== undefined && value !== 0);
  return { filename, format, 'check-errors': result.checkErrors, ...Object.fromEntries(known) };
}

export function renderCheck({ supported, result, json }: ImageCheck): string {
  if (!supported) return `The format ${String(json['format'])} has no check.`;
  const lines = [...result.messages];
  const { corruptionsFixed, leaksFixed, checkErrors } = result;
  const { corruptions, leaks } = leftOf(result);
  if (corruptionsFixed + leaksFixed > 0)
    lines.push(`Repaired: ${corruptionsFixed} errors, ${leaksFixed} leaked clusters.`);
  if (corruptions > 0) lines.push(`${corruptions} errors were found on the image. Its data may be damaged.`);
  if (leaks > 0)
    lines.push(`${leaks} leaked clusters were found on the image. They waste space, no data is at risk.`);
  if (checkErrors > 0) lines.push(`${checkErrors} errors kept the check from being complete.`);
  if (corruptions + leaks + checkErrors === 0)
    lines.push(
      corruptionsFixed + leaksFixed > 0
        ? 'No errors are left on the image.'
        : 'No errors were found on the image.',
    );
  const { totalClusters, allocatedClusters = 0, imageEndOffset } = result;
  if (totalClusters !== undefined && totalClusters > 0) {
    const percent = ((allocatedClusters * 100) / totalClusters).toFixed(2);
    lines.push(`${allocatedClusters}/${totalClusters} = ${percent} % allocated`);
  }
  if (imageEndOffset !== undefined) lines.push(`Image end offset: ${imageEndOffset}`);
  return lines.join('\n');
}

/** As qemu-img's. */
export function checkExitCode({ supported, result }: ImageCheck): number {
  if (!supported) return UNSUPPORTED;
  const { corruptions, leaks } = leftOf(result);
  if (result.checkErrors > 0) return 1;
  if (corruptions > 0) return 2;
  return leaks > 0 ? 3 : 0;
}

/** What was not repaired. */
function leftOf(result: CheckResult): { corruptions: number; leaks: number } {
  return {
    corruptions: result.corruptions - result.corruptionsFixed,
    leaks: result.leaks - result.leaksFixed,
  };
}
