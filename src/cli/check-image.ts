import type { CheckOptions, CheckResult } from '../block/driver.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { imageTree } from './image-arguments.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { openForCommand, withGraph } from './with-graph.ts';

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
  if (!writable) return (await openForCommand(graph, image, values, { writable })).node;
  const probe = await graph.open({ ...imageTree(image, values), 'read-only': true });
  const { driver, name } = probe;
  await graph.remove(name);
  const options = 'x-repair' in driver.options ? { driver: driver.name, 'x-repair': true } : {};
  return (await openForCommand(graph, image, values, { writable, options })).node;
}

function toJson(filename: string, format: string, result: CheckResult): Record<string, unknown> {
  const counts: Readonly<Record<string, number | undefined>> = {
    'image-end-offset': result.imageEndOffset,
    'total-clusters': result.totalClusters,
    'allocated-clusters': result.allocatedClusters,
    'fragmented-clusters': result.fragmentedClusters,
    'compressed-clusters': result.compressedClusters,
    corruptions: result.corruptions === 0 ? undefined : result.corruptions,
    leaks: result.leaks === 0 ? undefined : result.leaks,
    'corruptions-fixed': result.corruptionsFixed === 0 ? undefined : result.corruptionsFixed,
    'leaks-fixed': result.leaksFixed === 0 ? undefined : result.leaksFixed,
  };
  const known = Object.entries(counts).filter(([, value]) => value !== undefined);
  return { filename, format, 'check-errors': result.checkErrors, ...Object.fromEntries(known) };
}

export function renderCheck({ supported, result, json }: ImageCheck): string {
  if (!supported) return `The format ${String(json['format'])} has no check.`;
  const lines = [...result.messages];
  const { corruptionsFixed, leaksFixed, corruptions, leaks, checkErrors } = result;
  if (corruptionsFixed + leaksFixed > 0)
    lines.push(`Repaired: ${corruptionsFixed} errors, ${leaksFixed} leaked clusters.`);
  if (corruptions > 0) lines.push(`${corruptions} errors were found on the image. Its data may be damaged.`);
  if (leaks > 0)
    lines.push(`${leaks} leaked clusters were found on the image. They waste space, no data is at risk.`);
  if (checkErrors > 0) lines.push(`${checkErrors} errors kept the check from being complete.`);
  if (corruptions + leaks + checkErrors === 0) lines.push('No errors were found on the image.');
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
  if (result.checkErrors > 0) return 1;
  if (result.corruptions > 0) return 2;
  return result.leaks > 0 ? 3 : 0;
}
