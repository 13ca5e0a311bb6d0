/** Every recipe of README.md, run as it stands with its real tools, as root and as an ordinary user. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import type { Outcome } from '../helpers/run.ts';
import { attempt, run } from '../helpers/run.ts';
import { canRun, isRoot, tool } from '../helpers/tools.ts';
import { recipes } from './blocks.ts';
import type { Recipe } from './blocks.ts';
import { cookRecipe, kitchen } from './kitchen.ts';
import type { Cook } from './kitchen.ts';

const MIB = 2 ** 20;

interface Dish {
  readonly tools: readonly string[];
  /** Makes what the recipe starts from. */
  prepare(t: ExecutionContext, folder: string): Promise<void>;
  /** Looks at what came of it. */
  taste(t: ExecutionContext, folder: string, outcome: Outcome): Promise<void>;
}

const PARTED = ['sfdisk', 'mkfs.ext4', 'mkfs.fat', 'mcopy', 'qemu-img'];
const DISHES: Readonly<Record<string, Dish>> = {
  look: {
    tools: [...PARTED, 'mdir', 'debugfs'],
    prepare: (_t, folder) => partedImage(folder),
    async taste(t, _folder, { stdout }) {
      t.regex(stdout, /^file format: qcow2$/m);
      t.regex(stdout, /^ *1 .*EFI system/m);
      t.regex(stdout, / 2\.raw$/m);
      t.regex(stdout, /^hello +txt/im);
      t.regex(stdout, /^inside$/m);
    },
  },
  attach: {
    tools: [...PARTED, 'losetup', 'debugfs'],
    prepare: (_t, folder) => partedImage(folder),
    async taste(t, folder, { stdout }) {
      t.regex(stdout, /^\/dev\/loop\d+$/m);
      await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
      t.is(await hostname(folder, 'disk.qcow2', 12 * MIB), 'example.org\n');
    },
  },
  restic: {
    tools: ['restic', 'qemu-img', 'qemu-io'],
    prepare: (_t, folder) => writtenImage(folder),
    async taste(t, folder, { stdout }) {
      t.regex(stdout, /Files: +1 new, +0 changed, +0 unmodified/);
      t.regex(stdout, /Files: +0 new, +0 changed, +1 unmodified/);
      const env = {
        ...process.env,
        RESTIC_REPOSITORY: join(folder, 'repository'),
        RESTIC_PASSWORD: 'secret',
      };
      await run('restic', ['--no-cache', 'restore', 'latest', '--target', join(folder, 'restored')], { env });
      const restored = await run('find', [join(folder, 'restored'), '-name', 'monday.raw']);
      await sameDisk(t, folder, restored.stdout.trim());
    },
  },
  'borg-rsync-tar': {
    tools: ['borg', 'rsync', 'tar', 'qemu-img', 'qemu-io'],
    prepare: (_t, folder) => writtenImage(folder),
    async taste(t, folder, { stdout, stderr }) {
      t.regex(stderr, /^A mnt\/disk\.snapshots\/monday\.raw$/m);
      t.regex(stderr, /^U mnt\/disk\.snapshots\/monday\.raw$/m);
      t.notRegex(stdout, /monday\.raw$/m);
      await sameDisk(t, folder, join(folder, 'copy/monday.raw'));
      await run('tar', ['-xf', join(folder, 'disk.tar'), '-C', folder]);
      await sameDisk(t, folder, join(folder, 'disk.snapshots/monday.raw'));
      t.true((await stat(join(folder, 'disk.tar'))).size < 8 * MIB);
    },
  },
  'changed-blocks': {
    tools: ['jq', 'dd', 'qemu-img', 'qemu-io'],
    prepare: (_t, folder) => writtenImage(folder),
    async taste(t, folder, { stderr }) {
      t.deepEqual(stderr.match(/^\d+ bytes.* copied/gm), ['65536 bytes (66 kB, 64 KiB) copied']);
      await sameDisk(t, folder, join(folder, 'backup.raw'));
      await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
      const { stdout } = await run('qemu-img', ['info', '--output=json', join(folder, 'disk.qcow2')]);
      t.regex(stdout, /"name": "changed"/);
    },
  },
  moment: {
    tools: ['jq', 'socat', 'qemu-img', 'qemu-io'],
    async prepare(_t, folder) {
      await writtenImage(folder);
      await run('cp', [join(folder, 'disk.qcow2'), join(folder, 'was.qcow2')]);
    },
    async taste(t, folder) {
      const answers = await readFile(join(folder, 'answers'), 'utf8');
      t.notRegex(answers, /"error"/);
      await run('qemu-img', ['compare', '-q', join(folder, 'was.qcow2'), join(folder, 'backup.raw')]);
      const changed = await attempt('qemu-img', [
        'compare',
        join(folder, 'was.qcow2'),
        join(folder, 'disk.qcow2'),
      ]);
      t.is(changed.code, 1, 'the disk was written meanwhile');
      await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
    },
  },
  convert: {
    tools: ['qemu-img', 'qemu-io'],
    async prepare(_t, folder) {
      await writtenImage(folder);
      const convert = (...args: string[]) => run('qemu-img', ['convert', ...args], { cwd: folder });
      await convert('-O', 'vmdk', '-o', 'subformat=streamOptimized', 'disk.qcow2', 'machine.vmdk');
      await convert('-O', 'vhdx', 'disk.qcow2', 'other.vhdx');
    },
    async taste(t, folder, { stdout }) {
      t.regex(stdout, /identical/i);
      for (const name of ['machine', 'other']) await sameDisk(t, folder, join(folder, `${name}.qcow2`));
    },
  },
  encrypted: {
    tools: ['qemu-img', 'mkfs.ext4', 'fsck.ext4'],
    prepare: async () => undefined,
    async taste(_t, folder) {
      const opts = `driver=qcow2,encrypt.key-secret=k,file.filename=${folder}/secret.qcow2`;
      const args = ['--object', `secret,id=k,file=${folder}/key`, '--image-opts', opts];
      await run('qemu-img', ['convert', ...args, '-O', 'raw', join(folder, 'flat')]);
      await run('fsck.ext4', ['-fn', join(folder, 'flat')]);
    },
  },
  'running-vm': {
    tools: ['qemu-storage-daemon', 'qemu-img', 'mkfs.ext4', 'debugfs'],
    async prepare(t, folder) {
      await fileSystemImage(folder, 'running.qcow2');
      await startVirtualMachine(t, join(folder, 'running.qcow2'));
    },
    async taste(t, _folder, { stdout, stderr }) {
      t.regex(stderr, /^blockfuse: .*running\.qcow2.*(qemu-storage-d|another program)/m);
      t.regex(stdout, /^inside$/m);
    },
  },
  shrink: {
    tools: ['qemu-img', 'mkfs.ext4', 'fstrim', 'losetup'],
    prepare: (_t, folder) => fileSystemImage(folder, 'disk.qcow2', 24),
    async taste(t, folder) {
      const image = join(folder, 'disk.qcow2');
      const found = (await stat(image)).blocks * 512;
      t.true(found < 16 * MIB, `${found} bytes are left`);
      await run('qemu-img', ['check', '-q', image]);
      t.is(await hostname(folder, 'disk.qcow2'), 'inside\n');
    },
  },
  fstab: {
    tools: ['qemu-img', 'qemu-io', 'mount'],
    prepare: (_t, folder) => writtenImage(folder),
    async taste(t, folder, { stdout }) {
      t.regex(stdout, /^disk\.raw$/m);
      await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
    },
  },
};

const works = test.macro(async (t: ExecutionContext, recipe: Recipe, cook: Cook) => {
  const dish = DISHES[recipe.name];
  if (dish === undefined) return t.fail('nobody looks at what comes of it');
  if (!isRoot(t) || !canRun(t, 'unshare', 'setpriv', 'fusermount3', 'pgrep', ...dish.tools)) return;
  const place = await kitchen(t, cook);
  await dish.prepare(t, place.folder);
  await dish.taste(t, place.folder, await cookRecipe(t, place, recipe.script));
  return t.pass();
});

for (const recipe of recipes()) {
  test.serial(`${recipe.name}, as root`, works, recipe, 'root');
  if (!recipe.needsRoot)
    test.serial(`${recipe.name}, as an ordinary user`, works, recipe, 'an ordinary user');
}

test('README has the recipes that are looked at here', (t) => {
  t.deepEqual(
    recipes()
      .map(({ name }) => name)
      .sort(),
    Object.keys(DISHES).sort(),
  );
});

/** disk.qcow2, 64 MiB: some megabytes of noise, the rest holes. */
async function writtenImage(folder: string): Promise<void> {
  const image = join(folder, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  await run('qemu-io', ['-c', 'write -P 17 0 3M', '-c', 'write -P 99 33M 1M', image]);
}

/** Whether a file holds the disk of disk.qcow2. */
async function sameDisk(t: ExecutionContext, folder: string, file: string): Promise<void> {
  const { code, stdout } = await attempt('qemu-img', ['compare', join(folder, 'disk.qcow2'), file]);
  t.is(code, 0, stdout);
}

/** An ext4 with /etc/hostname, and /cache with so many MiB of noise. */
async function makeFileSystem(folder: string, name: string, cache = 0): Promise<string> {
  const tree = join(folder, '.tree');
  await mkdir(join(tree, 'etc'), { recursive: true });
  await mkdir(join(tree, 'cache'), { recursive: true });
  await writeFile(join(tree, 'etc/hostname'), 'inside\n');
  if (cache > 0) await run('dd', ['if=/dev/urandom', `of=${tree}/cache/noise`, 'bs=1M', `count=${cache}`]);
  const file = join(folder, name);
  await run('mkfs.ext4', ['-q', '-F', '-d', tree, file, '48M']);
  await run('rm', ['-r', tree]);
  return file;
}

async function fileSystemImage(folder: string, image: string, cache = 0): Promise<void> {
  const raw = await makeFileSystem(folder, '.fs', cache);
  await run('qemu-img', ['convert', '-O', 'qcow2', raw, join(folder, image)]);
  await run('rm', [raw]);
}

/** disk.qcow2 with a GPT: 10 MiB of FAT with hello.txt, 48 MiB of ext4 with /etc/hostname. */
async function partedImage(folder: string): Promise<void> {
  const raw = join(folder, '.disk');
  await run('truncate', ['-s', '64M', raw]);
  await run('sfdisk', ['-q', raw], {
    input: 'label: gpt\nstart=1MiB,size=10MiB,type=U\nstart=12MiB,size=48MiB\n',
  });
  const fat = join(folder, '.fat');
  await run('mkfs.fat', ['-C', fat, '10240']);
  await run('mcopy', ['-i', fat, '-', '::hello.txt'], { input: 'hello\n' });
  const ext4 = await makeFileSystem(folder, '.fs');
  const put = (file: string, at: number) =>
    run('dd', [`if=${file}`, `of=${raw}`, 'bs=1M', `seek=${at}`, 'conv=notrunc']);
  await put(fat, 1);
  await put(ext4, 12);
  await run('qemu-img', ['convert', '-O', 'qcow2', raw, join(folder, 'disk.qcow2')]);
  await run('rm', [raw, fat, ext4]);
}

/** What /etc/hostname of the ext4 at an offset of the image's disk holds, as QEMU reads the image. */
async function hostname(folder: string, image: string, offset = 0): Promise<string> {
  const flat = join(folder, '.flat');
  await run('qemu-img', ['convert', '-O', 'raw', join(folder, image), flat]);
  const part = join(folder, '.part');
  await run('dd', [`if=${flat}`, `of=${part}`, 'bs=1M', `skip=${offset / MIB}`, 'count=48']);
  const { stdout } = await run('debugfs', ['-R', 'cat /etc/hostname', part]);
  return stdout;
}

/** What has an image open and locked for writing as a machine of QEMU's does. */
async function startVirtualMachine(t: ExecutionContext, image: string): Promise<void> {
  const nbd = `${image}.sock`;
  const args = [
    ...['--blockdev', `driver=qcow2,node-name=d,file.driver=file,file.filename=${image}`],
    ...['--nbd-server', `addr.type=unix,addr.path=${nbd}`],
    ...[
      '--export',
      'type=nbd,id=e,node-name=d,writable=on',
      '--chardev',
      'stdio,id=c',
      '--monitor',
      'chardev=c',
    ],
  ];
  const child = spawn(tool('qemu-storage-daemon'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await once(child.stdout, 'data');
}
