/** A raw disk whose I/O the kernel does by itself on the host file. */
import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { isRoot } from '../helpers/tools.ts';

const MIB = 2 ** 20;

// A kernel without passthrough leaves it to the server, which has no space there.
test('what the kernel writes past the end belongs to the disk: its size follows', async (t) => {
  if (!isRoot(t)) return;
  const raw = join(await tempDir(t), 'disk.raw');
  await writeFile(raw, Buffer.alloc(MIB));
  const mounted = await mountImage(t, raw, ['--format', 'raw']);
  const handle = await open(mounted.file, 'r+');
  const bytes = Buffer.alloc(4096, 7);
  const grown = await handle.write(bytes, 0, bytes.length, MIB).then(
    () => true,
    () => false,
  );
  const size = grown ? MIB + bytes.length : MIB;
  t.is((await handle.stat()).size, size);
  await handle.close();
  t.is((await stat(mounted.file)).size, size);
  t.deepEqual((await readFile(mounted.file)).subarray(MIB), bytes.subarray(0, size - MIB));
  await mounted.unmount();
  t.is((await stat(raw)).size, size);
});
