/** Images whose snapshot tables are meant to hurt: refused with a clear error, or served, in bounded time and memory. */
import { execFile } from 'node:child_process';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { encodeSnapshot, newExtra } from '../../drivers/format/qcow2/snapshot/entry.ts';
import type { Snapshot } from '../../drivers/format/qcow2/snapshots.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const CLUSTER = 65536;
const MIB = 1024 * 1024;
const COUNT = 600;
const L1_BYTES = 32 * MIB;
const SURVIVOR = fileURLToPath(new URL('malformed-run.ts', import.meta.url));

type Hostile = Pick<Snapshot, 'l1Offset' | 'l1Entries' | 'diskSize' | 'vmStateSize'>;

interface Scenario {
  readonly snapshot: (index: number, end: number) => Hostile;
  /** Bytes behind the list that the file is said to have; nothing is written there. */
  readonly tail: number;
  /** Why one of the requests is refused, or the image; left out: each is served. */
  readonly refused?: RegExp;
}

interface Result {
  readonly served: number;
  readonly slowest: number;
  readonly memory: number;
  readonly why: string;
}

function entry(index: number, hostile: Hostile): Buffer {
  const text = Buffer.from(`${index}`);
  return encodeSnapshot({
    ...hostile,
    id: `${index}`,
    name: `${index}`,
    idBytes: text,
    nameBytes: text,
    dateSec: 0,
    dateNsec: 0,
    vmClockNsec: 0n,
    extra: newExtra(),
  });
}

/** An image with a list of snapshots at its end; the refcounts say of it, and of what is behind it, that it is in use. */
async function makeHostile(folder: string, { snapshot, tail }: Scenario): Promise<string> {
  const path = join(folder, 'hostile.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
  await run('qemu-io', ['-c', 'write -P 1 0 100k', path]);
  const image = await readFile(path);
  const at = Math.ceil(image.length / CLUSTER) * CLUSTER;
  const length = Math.ceil((COUNT * 80) / CLUSTER) * CLUSTER;
  const list = Buffer.alloc(length);
  const entries = Array.from({ length: COUNT }, (_, index) => entry(index, snapshot(index, at + length)));
  Buffer.concat(entries).copy(list);
  const block = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(48))));
  const counted = Math.min(CLUSTER / 2, Math.ceil((at + length + tail) / CLUSTER));
  for (let cluster = at / CLUSTER; cluster < counted; cluster += 1)
    image.writeUInt16BE(1, block + cluster * 2);
  image.writeUInt32BE(COUNT, 60);
  image.writeBigUInt64BE(BigInt(at), 64);
  await writeFile(path, Buffer.concat([image, Buffer.alloc(at - image.length), list]));
  const file = await open(path, 'r+');
  await file.truncate(at + length + tail);
  await file.close();
  return path;
}

const survives = test.macro(async (t: ExecutionContext, scenario: Scenario) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  await writeFile(join(folder, 'list'), await makeHostile(folder, scenario));
  const output = await new Promise<string>((resolve, reject) => {
    execFile(
      process.execPath,
      [SURVIVOR, join(folder, 'list')],
      { timeout: 60_000 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${error.message}\n${stdout}${stderr}`));
      },
    );
  });
  const { served, slowest, memory, why } = JSON.parse(output) as Result;
  t.log(`${slowest} ms of the processor, ${memory} MiB: ${why}`);
  t.is(served, scenario.refused === undefined ? 1 : 0, why);
  if (scenario.refused !== undefined) t.regex(why, scenario.refused);
  t.true(slowest < 10_000, `it took ${slowest} ms of the processor`);
  t.true(memory < 512, `memory ${memory} MiB`);
});

const PLAIN = { diskSize: 64 * MIB, vmStateSize: 0 };
test.serial('hundreds of huge L1 tables, each over most of the next', survives, {
  snapshot: (index, end) => ({ ...PLAIN, l1Offset: end + index * CLUSTER, l1Entries: L1_BYTES / 8 }),
  tail: COUNT * CLUSTER + L1_BYTES,
});
test.serial('hundreds of huge L1 tables, all in one place', survives, {
  snapshot: (_, end) => ({ ...PLAIN, l1Offset: end, l1Entries: L1_BYTES / 8 }),
  tail: L1_BYTES,
});
test.serial('hundreds of huge L1 tables, apart', survives, {
  snapshot: (index, end) => ({ ...PLAIN, l1Offset: end + index * L1_BYTES, l1Entries: L1_BYTES / 8 }),
  tail: COUNT * L1_BYTES,
  refused: /cluster \d+ holds the L1 table of snapshot "63", but its refcount is 0/,
});
test.serial('L1 tables with more entries than may be', survives, {
  snapshot: (_, end) => ({ ...PLAIN, l1Offset: end, l1Entries: 2 ** 32 - 1 }),
  tail: L1_BYTES,
  refused: /L1 table of snapshot "0" has 4294967295 entries, must be at most 4194304/,
});
test.serial('L1 tables behind all that a file can have', survives, {
  snapshot: () => ({ ...PLAIN, l1Offset: 2 ** 53 - CLUSTER, l1Entries: L1_BYTES / 8 }),
  tail: 0,
});
test.serial("L1 tables where the disk's own is", survives, {
  snapshot: () => ({ ...PLAIN, l1Offset: 3 * CLUSTER, l1Entries: L1_BYTES / 8 }),
  tail: L1_BYTES,
  refused: /cluster 3 holds both the L1 table and the L1 table of snapshot "0"/,
});
test.serial('disks and states as large as numbers go', survives, {
  snapshot: (_, end) => ({
    diskSize: Number.MAX_SAFE_INTEGER,
    vmStateSize: Number.MAX_SAFE_INTEGER,
    l1Offset: end,
    l1Entries: 1,
  }),
  tail: CLUSTER,
});
