/**
 * A process of its own that opens damaged images, one after the other, and tells what came of each: one JSON line a case.
 * Arguments: the folder, the driver. Standard input: numbers of the cases, one a line; `<number>.img` is the image.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Graph } from '../../src/block/graph.ts';
import { Permission } from '../../src/block/permissions.ts';

export interface Verdict {
  readonly number: number;
  /** What happened when it was opened read-only, then writable. */
  readonly steps: readonly Step[];
  /** Of the processor. */
  readonly milliseconds: number;
  /** Highest resident memory of the process so far, bytes. */
  readonly peak: number;
}

export interface Step {
  readonly mode: 'read' | 'write';
  readonly outcome: 'served' | 'refused' | 'broken';
  readonly message?: string;
}

const [folder = '.', driver = 'raw'] = process.argv.slice(2);
const PIECE = 64 * 1024;
/** Runs of the map looked at, requests made: a damaged image may claim exabytes. */
const MOST = 64;

async function judge(number: number): Promise<Verdict> {
  const start = process.cpuUsage();
  const filename = join(folder, `${number}.img`);
  const steps = [await attempt('read', filename), await attempt('write', filename)];
  const { user, system } = process.cpuUsage(start);
  const peak = process.resourceUsage().maxRSS * 1024;
  return { number, steps, milliseconds: (user + system) / 1000, peak };
}

async function attempt(mode: Step['mode'], filename: string): Promise<Step> {
  const graph = new Graph({ drivers: DRIVERS });
  const problems: unknown[] = [];
  const note = (error: unknown): void => void problems.push(error);
  let opened = false;
  try {
    const node = await graph.open({
      driver,
      'read-only': mode === 'read',
      discard: 'unmap',
      file: { driver: 'file', filename },
    });
    opened = true;
    const used = Permission.consistentRead | (mode === 'write' ? Permission.write : 0);
    const root = graph.attachRoot(node, { name: 'fuzz', used });
    await (mode === 'read' ? readAbout(root, note) : writeAbout(root, note));
  } catch (error) {
    note(error);
  }
  await graph.close().catch(note);
  const unclear = problems.find((error) => !isClear(error));
  if (unclear !== undefined) return { mode, outcome: 'broken', message: describe(unclear) };
  return {
    mode,
    outcome: opened ? 'served' : 'refused',
    message: problems.map(messageOf).join('; ').slice(0, 300),
  };
}

async function readAbout(root: Child, note: (error: unknown) => void): Promise<void> {
  const status = new BlockStatus();
  for (let at = 0, count = 0; at < root.size && count < MOST; at += status.length, count += 1) {
    await root.status(at, root.size - at, status);
    if (status.length <= 0) throw new TypeError(`status covers nothing at ${at}`);
  }
  const bytes = Buffer.alloc(PIECE);
  for (const offset of places(root.size)) {
    if (!root.tryRead(bytes, 0, PIECE, offset)) await root.read(bytes, offset).catch(note);
  }
}

async function writeAbout(root: Child, note: (error: unknown) => void): Promise<void> {
  const bytes = Buffer.alloc(5000, 0x77);
  for (const offset of places(root.size)) {
    if (offset + bytes.length > root.size) continue;
    if (!root.tryWrite(bytes, 0, bytes.length, offset)) await root.write(bytes, offset).catch(note);
    await root.writeZeroes(offset, Math.min(PIECE, root.size - offset)).catch(note);
  }
  await root.discard(0, Math.min(root.size, 4 * PIECE)).catch(note);
  await root.flush().catch(note);
}

function places(size: number): number[] {
  const step = Math.max(PIECE, Math.floor(size / 12 / PIECE) * PIECE);
  const offsets: number[] = [];
  for (let at = 0; at < size && offsets.length < MOST; at += step) offsets.push(at);
  if (size > 0) offsets.push(Math.max(0, size - 5000));
  return offsets;
}

/**
 * Whether an error is one that a user can be shown: ours, in our words. One that only passes on what the language said
 * (a TypeError's message) is a mistake in the program.
 */
function isClear(error: unknown): boolean {
  if (!(error instanceof BlockError) || error.message === '') return false;
  const { cause } = error;
  return !(cause instanceof Error) || cause instanceof BlockError || error.message !== cause.message;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}

async function main(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await judge(Number(line)))}\n`);
  }
}

void main();
