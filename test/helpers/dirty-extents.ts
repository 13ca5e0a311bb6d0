/** Dirty extents of a bitmap as QEMU and as blockfuse tell them, in one shape. */
import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import type { DirtyBitmap } from '../../src/block/dirty-bitmap.ts';
import { run } from './run.ts';
import { tempDir } from './temp-dir.ts';

export type DirtyExtents = readonly (readonly [start: number, length: number])[];

/** Of a bitmap in memory. */
export function extentsOf(bitmap: DirtyBitmap): DirtyExtents {
  const found: [number, number][] = [];
  for (let run = bitmap.nextDirty(0); run !== undefined; run = bitmap.nextDirty(run.offset + run.length))
    found.push([run.offset, run.length]);
  return found;
}

/** As qemu-nbd exports the bitmap of an image that nobody else has open; needs qemu-nbd and nbdinfo. */
export async function qemuExtents(t: ExecutionContext, image: string, name: string): Promise<DirtyExtents> {
  const folder = await tempDir(t);
  const [socket, pidFile] = [`${folder}/s`, `${folder}/pid`];
  await run('qemu-nbd', [
    ...['-r', '-f', 'qcow2', '-B', name, '-k', socket, '--fork', `--pid-file=${pidFile}`, image],
  ]);
  try {
    const map = ['--json', `--map=qemu:dirty-bitmap:${name}`, `nbd+unix:///?socket=${socket}`];
    const { stdout } = await run('nbdinfo', map);
    const ranges = JSON.parse(stdout) as readonly { offset: number; length: number; type: number }[];
    return joined(ranges.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]));
  } finally {
    const pid = Number(await readFile(pidFile, 'utf8'));
    process.kill(pid, 'SIGTERM');
    while (await isThere(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Neighbours as one. */
function joined(extents: DirtyExtents): DirtyExtents {
  const found: [number, number][] = [];
  for (const [start, length] of extents) {
    const last = found.at(-1);
    if (last !== undefined && last[0] + last[1] === start) last[1] += length;
    else found.push([start, length]);
  }
  return found;
}

async function isThere(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return status !== '' && !/^State:\s+Z/m.test(status);
}
