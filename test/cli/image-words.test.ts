/** An image on the command line by more than its name: options, JSON, and the short forms of protocols. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { blockfuse } from '../helpers/command.ts';
import { mountImage } from '../helpers/mounted.ts';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const OPTIONS = 'driver=qcow2,file.driver=file,file.filename=disk.qcow2';
const CONTENT = Buffer.alloc(1 << 20, 'content');

async function folderWithImages(t: ExecutionContext): Promise<string> {
  const cwd = await tempDir(t);
  await writeFile(join(cwd, 'flat.raw'), CONTENT);
  await run('qemu-img', ['convert', '-O', 'qcow2', 'flat.raw', 'disk.qcow2'], { cwd });
  await mkdir(join(cwd, 'mnt'));
  await mkdir(join(cwd, 'folder'));
  await writeFile(join(cwd, 'folder', 'hello.txt'), 'hello');
  return cwd;
}

/** Everything from the folder of the images, so that names are relative. */
async function said(cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await blockfuse(args, { cwd });
  return code === 0 ? stdout : `exit code ${code}: ${stderr}`;
}

test('--image-opts: wherever an image is named', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await folderWithImages(t);
  const options = ['--image-opts', OPTIONS];
  t.regex(await said(cwd, 'info', ...options), /file format: qcow2\n.*1 MiB/);
  t.is(await said(cwd, 'map', '--json', ...options), await said(cwd, 'map', '--json', 'disk.qcow2'));
  t.regex(await said(cwd, 'check', ...options), /No errors/);
  t.regex(await said(cwd, 'measure', ...options), /required size/);
  t.regex(await said(cwd, 'compare', ...options, 'driver=raw,file.filename=flat.raw'), /identical/);
  t.is(await said(cwd, 'convert', ...options, 'out.raw'), '');
  t.true((await readFile(join(cwd, 'out.raw'))).equals(CONTENT));
  const window = 'driver=raw,offset=512,size=1024,file.filename=flat.raw';
  t.is(await said(cwd, 'convert', '--image-opts', window, 'piece.raw'), '');
  t.true((await readFile(join(cwd, 'piece.raw'))).equals(CONTENT.subarray(512, 1536)));
  t.regex(
    await said(cwd, 'info', '-f', 'raw', ...options),
    /exit code 2: .*--format does not go with --image-opts/,
  );
  t.regex(await said(cwd, 'info', '--image-opts', 'driver=qcow2'), /exit code 1: .*needs a child "file"/);
  t.regex(await said(cwd, 'info', '--image-opts', `${OPTIONS},foo=1`), /exit code 1: .*no option "foo"/);
});

/** Mounts, reads the disk and unmounts. */
async function contentOf(t: ExecutionContext, cwd: string, ...words: string[]): Promise<Buffer> {
  t.teardown(() => blockfuse(['unmount', '--lazy', 'mnt'], { cwd }));
  const mounted = await said(cwd, 'mount', '--read-only', '--node-name', 'disk', ...words, 'mnt');
  t.is(mounted, `${join(cwd, 'mnt', 'disk.raw')}\n`);
  const content = await readFile(join(cwd, 'mnt', 'disk.raw'));
  t.is(await said(cwd, 'unmount', 'mnt'), '');
  return content;
}

const raw = (filename: string): object => ({ driver: 'raw', file: { driver: 'file', filename } });
const MOUNTED: Readonly<Record<string, readonly string[]>> = {
  options: ['--image-opts', OPTIONS],
  JSON: [`json:${JSON.stringify({ driver: 'qcow2', file: { driver: 'file', filename: 'disk.qcow2' } })}`],
  'JSON with a list': [
    `json:${JSON.stringify({ driver: 'quorum', 'vote-threshold': 1, children: [raw('flat.raw'), raw('flat.raw')] })}`,
  ],
};

for (const [name, words] of Object.entries(MOUNTED)) {
  test(`mount, with names that are relative: ${name}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const cwd = await folderWithImages(t);
    t.true((await contentOf(t, cwd, ...words)).equals(CONTENT));
  });
}

test('mount, with names that are relative: folders', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await folderWithImages(t);
  const short = await contentOf(t, cwd, 'fat:floppy:folder');
  t.is(short.length, 1_474_560);
  t.true(short.includes('hello'));
  const options = await contentOf(t, cwd, '--image-opts', 'driver=vvfat,dir=folder,floppy=on,label=ME');
  t.true(options.includes('hello'));
});

test('lists of options of the format add up, in either style', async (t) => {
  const image = join(await tempDir(t), 'disk.raw');
  const content = new Random(1).bytes(4096);
  await writeFile(image, content);
  for (const options of [
    ['-O', 'offset=512', '-O', 'size=1024'],
    ['-o', 'options=offset=512', '-o', 'options=size=1024'],
  ]) {
    const mounted = await mountImage(t, image, ['-f', 'raw', ...options]);
    t.true((await readFile(mounted.file)).equals(content.subarray(512, 1536)), options[0]);
    await mounted.unmount();
  }
});
