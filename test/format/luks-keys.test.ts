/** `amend` of LUKS key slots, in qcow2 and plain: qemu-img opens with the keys that are there, and with no other. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { planSlots } from '../../src/crypto/luks-amend.ts';
import { newLuksVolume } from '../../src/crypto/luks-create.ts';
import { decodeLuksHeader, LUKS_SECTOR } from '../../src/crypto/luks-header.ts';
import { materialBytes, unlock } from '../../src/crypto/luks-key.ts';
import type { LuksStore } from '../../src/crypto/luks-slots.ts';
import { qemuImgWithNewKey } from '../helpers/qemu-key.ts';
import { attempt } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const SIZE = 512 * 1024;
const KEYS = ['one', 'two', 'three'] as const;
type Format = 'qcow2' | 'luks';
type Options = Readonly<Record<string, string>>;

interface Subject {
  readonly format: Format;
  readonly image: string;
  readonly raw: string;
}

function graphWith(t: ExecutionContext): Graph {
  const graph = new Graph({ drivers: DRIVERS });
  for (const key of KEYS) graph.secrets.add(key, Buffer.from(`the key ${key}`));
  t.teardown(() => graph.close());
  return graph;
}

const prefixOf = (format: Format): string => (format === 'luks' ? '' : 'encrypt.');

/** An image with the key "one" and content. */
async function make(t: ExecutionContext, format: Format): Promise<Subject> {
  const folder = await tempDir(t);
  const subject = { format, image: join(folder, 'image'), raw: join(folder, 'content.raw') };
  const graph = graphWith(t);
  const prefix = prefixOf(format);
  const options = {
    [`${prefix}key-secret`]: 'one',
    [`${prefix}iter-time`]: '1',
    ...(format === 'luks' ? {} : { 'encrypt.format': 'luks' }),
  };
  await createImage(graph, { filename: subject.image, format, size: SIZE, options });
  const node = await graph.openImage(subject.image, format, { [`${prefix}key-secret`]: 'one' });
  const content = Buffer.alloc(SIZE, 'kept whatever the key is ');
  await graph.attachRoot(node, { name: 'test', used: 15 }).write(content, 0);
  await graph.close();
  await writeFile(subject.raw, content);
  return subject;
}

/** As the command does it. @param key opens the image */
async function amend(
  t: ExecutionContext,
  { format, image }: Subject,
  given: { readonly key: string; readonly options: Options; readonly force?: boolean },
): Promise<void> {
  const graph = graphWith(t);
  const prefix = prefixOf(format);
  const node = await graph.openImage(image, format, { [`${prefix}key-secret`]: given.key });
  const { impl } = node;
  if (impl.family !== 'mapping') throw new Error('no format');
  const options = Object.fromEntries(
    Object.entries(given.options).map(([name, value]) => [prefix + name, value]),
  );
  const secret = async (id: string | undefined): Promise<Buffer> =>
    (await graph.secret(id, image)) ?? Buffer.alloc(0);
  try {
    await impl.amend?.({ options, force: given.force === true, secret });
  } finally {
    await graph.close();
  }
}

/** The keys with which qemu-img reads the content. */
async function opening(t: ExecutionContext, { format, image, raw }: Subject): Promise<string[]> {
  const found: string[] = [];
  for (const key of KEYS) {
    const secret = `secret,id=s,data=the key ${key}`;
    const opened = `driver=${format},${prefixOf(format)}key-secret=s,file.driver=file,file.filename=${image}`;
    const plain = `driver=raw,file.filename=${raw}`;
    const outcome = await attempt('qemu-img', ['compare', '--object', secret, '--image-opts', plain, opened]);
    if (outcome.code === 0) found.push(key);
    else t.regex(outcome.stderr, /Invalid password/, outcome.stdout);
  }
  return found;
}

const ADD_TWO = { state: 'active', 'new-secret': 'two', 'iter-time': '1' };

for (const format of ['qcow2', 'luks'] as const) {
  test.serial(`${format}: keys come and go, and qemu-img agrees`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const subject = await make(t, format);
    await amend(t, subject, { key: 'one', options: ADD_TWO });
    t.deepEqual(await opening(t, subject), ['one', 'two']);
    const three = { ...ADD_TWO, 'new-secret': 'three', keyslot: '7' };
    await amend(t, subject, { key: 'two', options: three });
    t.deepEqual(await opening(t, subject), ['one', 'two', 'three']);
    await amend(t, subject, { key: 'three', options: { state: 'inactive', 'old-secret': 'one' } });
    t.deepEqual(await opening(t, subject), ['two', 'three']);
    await amend(t, subject, {
      key: 'two',
      options: { state: 'inactive', keyslot: '7', 'old-secret': 'three' },
    });
    t.deepEqual(await opening(t, subject), ['two']);
    const before = await readFile(subject.image);
    for (const options of [
      { state: 'inactive', 'old-secret': 'two' },
      { state: 'inactive', keyslot: '1' },
    ]) {
      const error = await t.throwsAsync(amend(t, subject, { key: 'two', options }));
      t.regex(error.message, /no key would be left, and the content lost for ever; --force/);
    }
    t.true(before.equals(await readFile(subject.image)));
    const other = { ...ADD_TWO, 'new-secret': 'three', keyslot: '1' };
    await amend(t, subject, { key: 'two', options: other, force: true });
    t.deepEqual(await opening(t, subject), ['three']);
    const secret = ['--object', 'secret,id=s,data=the key three', '--image-opts'];
    const opened = `driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename=${subject.image}`;
    if (format === 'qcow2') t.is((await attempt('qemu-img', ['check', ...secret, opened])).code, 0);
    await amend(t, subject, { key: 'three', options: { state: 'inactive', keyslot: '1' }, force: true });
    t.deepEqual(await opening(t, subject), []);
  });

  test.serial(`${format}: what can not be is refused, with nothing written`, async (t) => {
    const subject = await make(t, format);
    const before = await readFile(subject.image);
    const refused: readonly (readonly [Options, RegExp])[] = [
      [{ 'new-secret': 'two' }, /state is missing, must be active or inactive/],
      [{ state: 'gone' }, /state is "gone", must be/],
      [{ ...ADD_TWO, 'old-secret': 'one' }, /old-secret is for state=inactive/],
      [{ ...ADD_TWO, keyslot: '8' }, /keyslot is "8", must be 0 to 7/],
      [{ ...ADD_TWO, keyslot: '0' }, /key slot 0 is in use: make it inactive first, or say --force/],
      [{ ...ADD_TWO, 'iter-time': '0' }, /iter-time is "0", must be 1 to 600000/],
      [{ ...ADD_TWO, 'new-secret': 'none' }, /there is no secret with id "none"/],
      [{ state: 'inactive' }, /keyslot or old-secret must say which keys/],
      [{ state: 'inactive', 'old-secret': 'two' }, /no key slot has the passphrase that old-secret names/],
      [{ state: 'inactive', keyslot: '3' }, /key slot 3 is inactive already/],
      [{ state: 'inactive', keyslot: '0', 'new-secret': 'two' }, /new-secret is for state=active/],
      [{ state: 'inactive', keyslot: '0', 'iter-time': '1' }, /iter-time is for state=active/],
      [{ state: 'inactive', keyslot: '0', 'old-secret': 'two' }, /key slot 0 does not have the passphrase/],
      [{ ...ADD_TWO, nonsense: '1' }, /nonsense" can't be changed once an image is made/],
    ];
    for (const [options, message] of refused) {
      const error = await t.throwsAsync(
        amend(t, subject, { key: 'one', options }),
        undefined,
        String(message),
      );
      t.regex(error.message, message);
    }
    t.true(before.equals(await readFile(subject.image)));
  });
}

test.serial('all eight slots: the last one is as good as the first, a ninth is refused', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const subject = await make(t, 'luks');
  for (let slot = 1; slot < 7; slot += 1) await amend(t, subject, { key: 'one', options: ADD_TWO });
  await amend(t, subject, { key: 'two', options: { ...ADD_TWO, 'new-secret': 'three' } });
  t.deepEqual(await opening(t, subject), ['one', 'two', 'three']);
  const full = await t.throwsAsync(amend(t, subject, { key: 'one', options: ADD_TWO }));
  t.regex(full.message, /all 8 key slots are in use: make one inactive first/);
  await amend(t, subject, { key: 'three', options: { state: 'inactive', 'old-secret': 'two' } });
  t.deepEqual(await opening(t, subject), ['one', 'three']);
});

test.serial('a key that qemu-img added opens here, one that it took away does not', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const subject = await make(t, 'luks');
  const objects = KEYS.flatMap((key) => ['--object', `secret,id=${key},data=the key ${key}`]);
  const theirs = async (options: string): Promise<void> => {
    const opened = `driver=luks,key-secret=one,file.driver=file,file.filename=${subject.image}`;
    await qemuImgWithNewKey(['amend', ...objects, '-o', options, '--image-opts', opened]);
  };
  await theirs('state=active,new-secret=two,iter-time=10');
  await amend(t, subject, { key: 'two', options: { ...ADD_TWO, 'new-secret': 'three' } });
  await theirs('state=inactive,old-secret=two');
  const error = await t.throwsAsync(amend(t, subject, { key: 'two', options: ADD_TWO }));
  t.regex(error.message, /fits none of its key slots/);
  t.deepEqual(await opening(t, subject), ['one', 'three']);
});

test('the power may fail at any write: the old key or the new one opens the volume', async (t) => {
  const given: Readonly<Record<string, string>> = {
    'cipher-alg': 'aes-128',
    'cipher-mode': 'xts',
    'ivgen-alg': 'plain64',
    'hash-alg': 'sha1',
    'iter-time': '1',
  };
  const volume = await newLuksVolume((name) => given[name] ?? '', Buffer.from('old'), 'volume');
  const activate = { state: 'active', 'new-secret': 'new', 'iter-time': '1' };
  for (const options of [activate, { ...activate, keyslot: '0' }, { ...activate, keyslot: '6' }]) {
    const states = await statesOf(volume.bytes, options);
    t.true(states.length > 1);
    for (const state of states) {
      const header = decodeLuksHeader(state, 'volume', state.length);
      const read = (bytes: Buffer, at: number) => Promise.resolve(void state.copy(bytes, 0, at));
      const open = (key: string) => unlock(header, Buffer.from(key), read, 'volume');
      await t.notThrowsAsync(open('old').catch(() => open('new')));
    }
  }
});

/** What may be on the disk while the keys change, but for what no key is in. */
async function statesOf(volume: Buffer, options: Options): Promise<Buffer[]> {
  const disk = Buffer.from(volume);
  const states = new Map<string, Buffer>();
  const note = (state: Buffer): void => {
    const header = decodeLuksHeader(state, 'volume', state.length);
    const active = header.slots.filter((slot) => slot.active);
    const sum = createHash('sha1').update(JSON.stringify(active));
    for (const { materialOffset: at } of active)
      sum.update(state.subarray(at * LUKS_SECTOR, at * LUKS_SECTOR + materialBytes(header.keyBytes)));
    states.set(sum.digest('hex'), Buffer.from(state));
  };
  const store: LuksStore = {
    subject: 'volume',
    header: decodeLuksHeader(disk, 'volume', disk.length),
    length: disk.length,
    read: (bytes, offset) => Promise.resolve(void disk.copy(bytes, 0, offset)),
    // A sector reaches the disk as a whole; which of a write do, nobody knows: the first, or all but that.
    write: (bytes, offset) => {
      const cut = Math.min(bytes.length, LUKS_SECTOR - (offset % LUKS_SECTOR));
      for (const [from, to] of [
        [0, cut],
        [cut, bytes.length],
        [0, bytes.length],
      ] as const) {
        const torn = Buffer.from(disk);
        bytes.copy(torn, offset + from, from, to);
        note(torn);
      }
      bytes.copy(disk, offset);
      return Promise.resolve();
    },
    flush: () => Promise.resolve(),
  };
  const passphrase = () => Promise.resolve(Buffer.from('old'));
  const request = { options, force: true, secret: () => Promise.resolve(Buffer.from('new')) };
  const change = await planSlots({ prefix: '', passphrase, request, store });
  await change();
  return [...states.values()];
}
