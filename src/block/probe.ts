import type { Child } from './child.ts';
import type { Driver } from './driver.ts';

/** Bytes at the start, and at the end, of a file that decide its format. */
export const PROBED_HEAD = 64 * 1024;
export const PROBED_TAIL = 4096;

/** The format of a file by its content; raw when no driver knows it. The bytes are looked at once. */
export async function probeFormat(file: Child, filename: string, drivers: Iterable<Driver>): Promise<string> {
  const { size } = file;
  const head = Buffer.alloc(Math.min(PROBED_HEAD, size));
  const tail = Buffer.alloc(Math.min(PROBED_TAIL, size));
  await file.read(head, 0);
  await file.read(tail, size - tail.length);
  let best = 'raw';
  let bestScore = 0;
  for (const driver of drivers) {
    const score = driver.probe?.(head, filename, tail, size) ?? 0;
    if (score > bestScore) {
      best = driver.name;
      bestScore = score;
    }
  }
  return best;
}
