/** Keys of encrypted images on the command line. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse, program } from '../helpers/program.ts';
import { attempt } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { terminal } from '../helpers/terminal.ts';
import { canRun } from '../helpers/tools.ts';

const KEY = 'a long and secret key';
const FAST = 'encrypt.iter-time=10';

test.serial('a key comes from a file, a descriptor, a variable or an object, and stays hidden', async (t) => {
  const folder = await tempDir(t);
  const image = join(folder, 'a.qcow2');
  const keyFile = join(folder, 'key');
  await writeFile(keyFile, KEY);
  await blockfuse(['create', '-o', `encrypt.format=luks,${FAST}`, '--key-file', keyFile, image, '4M']);
  const raw = join(folder, 'a.raw');
  await writeFile(raw, Buffer.alloc(4 * 1024 * 1024, 'content'));
  const before = process.env['BF_KEY'];
  process.env['BF_KEY'] = KEY;
  t.teardown(() => {
    if (before === undefined) delete process.env['BF_KEY'];
    else process.env['BF_KEY'] = before;
  });
  const mount = await mountImage(t, image, ['--key-env', 'BF_KEY']);
  await writeFile(mount.file, await readFile(raw), { flag: 'r+' });
  for (const part of ['cmdline', 'environ']) {
    t.false((await readFile(`/proc/${mount.pid}/${part}`, 'latin1')).includes(KEY));
  }
  const { stdout: listed } = await blockfuse(['list', '--json']);
  t.false(listed.includes(KEY) || listed.includes(Buffer.from(KEY).toString('base64')));
  await mount.unmount();
  const descriptor = await attemptBlockfuse(['compare', '--key-fd', '0', image, raw], { input: KEY });
  t.is(descriptor.code, 0, descriptor.stderr);
  const named = `json:{"driver":"qcow2","encrypt.key-secret":"s","file.driver":"file","file.filename":"${image}"}`;
  const out = join(folder, 'b.raw');
  await blockfuse(['convert', '--object', `secret,id=s,file=${keyFile}`, named, out]);
  t.true((await readFile(out)).equals(await readFile(raw)));
  const again = join(folder, 'c.qcow2');
  const object = ['--object', `secret,id=s,file=${keyFile}`];
  const target = ['--target-options', `encrypt.format=luks,encrypt.key-secret=s,${FAST}`, '-O', 'qcow2'];
  await blockfuse(['convert', ...object, ...target, out, again]);
  await blockfuse(['compare', '--key-file', keyFile, again, out]);
  const packed = await attemptBlockfuse(['convert', '-c', ...object, ...target, out, again]);
  t.regex(packed.stderr, /it is encrypted, and the format has no clusters that are both/);
  const wrong = await attemptBlockfuse(['compare', '--key-fd', '0', image, raw], { input: `${KEY}\n` });
  t.regex(wrong.stderr, /fits none of its key slots \(it ends with a newline, which counts\)/);
});

test.serial('without a key: what the header tells is shown, the rest is refused', async (t) => {
  const folder = await tempDir(t);
  const image = join(folder, 'a.luks');
  const keyFile = join(folder, 'key');
  await writeFile(keyFile, KEY);
  await blockfuse(['create', '-f', 'luks', '-o', 'iter-time=10', '--key-file', keyFile, image, '1M']);
  const info = JSON.parse((await blockfuse(['info', '--json', image])).stdout) as Record<string, unknown>;
  t.like(info, { format: 'luks', encrypted: true, 'virtual-size': 1024 * 1024 });
  const refused = await attemptBlockfuse(['resize', image, '2M']);
  t.regex(refused.stderr, /Cannot unlock .*a\.luks": it is encrypted, give its key with --key-file/);
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  const mount = await attemptBlockfuse(['mount', image, mountpoint]);
  t.regex(mount.stderr, /Cannot unlock .*it is encrypted, give its key with --key-file/);
});

test.serial('a terminal is asked for the key, without an echo', async (t) => {
  if (!canRun(t, 'script')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'a.luks');
  const keyFile = join(folder, 'key');
  await writeFile(keyFile, KEY);
  await blockfuse(['create', '-f', 'luks', '-o', 'iter-time=10', '--key-file', keyFile, image, '1M']);
  const asks = (command: string, typed: string) =>
    attempt('script', ['-qec', `sleep 0.1; ${process.execPath} ${program()} ${command}`, '/dev/null'], {
      input: typed,
    });
  const right = await asks(`resize ${image} 2M`, `wrong\u0015${'\u007f'.repeat(6)}${KEY}\r`);
  t.regex(right.stdout, /Key for ".*a\.luks": /);
  t.is(right.code, 0, right.stdout);
  const made = join(folder, 'asked.luks');
  const create = `create -f luks -o iter-time=10 ${made} 1M`;
  const differ = await asks(create, `${KEY}\rother\r`);
  t.regex(
    differ.stdout,
    /New key for ".*asked\.luks": \s*The same again: \s*.*the two keys are not the same/,
  );
  await t.throwsAsync(readFile(made), { code: 'ENOENT' });
  t.is((await asks(create, `${KEY}\r${KEY}\r`)).code, 0);
  const change = await asks(`amend -o state=active,iter-time=10 ${made}`, `${KEY}\rsecond\rsecond\r`);
  t.is(change.code, 0, change.stdout);
  t.is((await asks(`resize ${made} 2M`, 'second\r')).code, 0);
  const wrong = await asks(`mount ${image} ${folder}`, 'wrong\r');
  t.regex(wrong.stdout, /fits none of its key slots/);
});

test.serial('what is typed when it is asked for is not shown', async (t) => {
  if (!canRun(t, 'tmux')) return;
  const image = join(await tempDir(t), 'a.luks');
  const run = `${process.execPath} ${program()}`;
  const create = `${run} create -f luks -o iter-time=10 ${image} 1M && ${run} resize ${image} 2M`;
  const screen = await terminal(t, create, { columns: 120, rows: 20 });
  for (const question of [/New key for/, /The same again/, /\nKey for/]) {
    await screen.until(question);
    await screen.type('unseen', 'Enter');
  }
  const shown = await screen.until(/ended with \d/);
  t.regex(shown, /Image resized to 2097152 bytes[^]*ended with 0/);
  t.false(shown.includes('unseen'), shown);
});
