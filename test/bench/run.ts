/** npm run bench -- --help */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { program } from '../helpers/program.ts';
import { findTool } from '../helpers/tools.ts';
import { cleanUp, cleanUpOnSignals, onCleanup } from './cleanup.ts';
import { Images } from './images.ts';
import { measure } from './measure.ts';
import type { RowResult } from './measure.ts';
import { heading, renderRow, toJson } from './report.ts';
import { ROWS } from './rows.ts';
import type { Row } from './rows.ts';

const HELP = `npm run bench -- [options]

  --rounds N      measurements of each server a row, in turns (5)
  --time S        seconds of each (2)
  --only TEXT     rows whose name contains TEXT or matches it as a regular expression
  --size MIB      size of the disks (1024); they should fit the memory twice
  --dir FOLDER    where the images are made (the system's folder for temporary files)
  --json          results as JSON on standard output, the table on standard error
  --list          names of the rows
  --help          this text

Compares the built program with the installed qemu-storage-daemon's FUSE export, and raw with the host's file itself:
fio (psync) on images with the same content, warm cache unless the row says cold, ratio of medians. Trust ratios only
on a machine that does nothing else. Whatever it starts is ended, also by Ctrl-C.
`;

const NEEDED = {
  fio: 'fio',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
};

const OPTIONS = {
  rounds: { type: 'string', default: '5' },
  time: { type: 'string', default: '2' },
  only: { type: 'string' },
  size: { type: 'string', default: '1024' },
  dir: { type: 'string', default: tmpdir() },
  json: { type: 'boolean', default: false },
  list: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false, short: 'h' },
} as const;

const values = readOptions();

function readOptions(): ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'] {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`);
    process.exit(2);
  }
}

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(HELP);
  const rows = ROWS.filter((row) => values.only === undefined || matches(row, values.only));
  if (values.list) return void process.stdout.write(`${rows.map((row) => row.name).join('\n')}\n`);
  const missing = Object.entries(NEEDED).filter(([name]) => findTool(name) === undefined);
  if (missing.length > 0)
    throw new Error(`Cannot measure: install ${missing.map(([, debian]) => debian).join(' ')}`);
  cleanUpOnSignals();
  program();
  try {
    await measureAll(rows);
  } finally {
    await cleanUp();
  }
}

async function measureAll(rows: readonly Row[]): Promise<void> {
  const folder = await mkdtemp(join(values.dir, 'blockfuse-bench-'));
  onCleanup(() => rm(folder, { recursive: true, force: true }));
  const images = new Images(folder, Number(values.size) * 1024 * 1024);
  const table = values.json ? process.stderr : process.stdout;
  const settings = { rounds: Number(values.rounds), seconds: Number(values.time) };
  const results: RowResult[] = [];
  table.write(`${heading()}\n`);
  for (const row of rows) {
    const result = await measure(row, images, settings);
    results.push(result);
    table.write(`${renderRow(result)}\n`);
  }
  if (values.json) process.stdout.write(toJson(results));
}

function matches(row: Row, only: string): boolean {
  return row.name.includes(only) || new RegExp(only, 'i').test(row.name);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
