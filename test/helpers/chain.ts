import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelDisk } from './model-disk.ts';
import type { Random } from './random.ts';
import { run } from './run.ts';

export interface ChainShape {
  /** raw, or qcow2 with as many layers as `depth`. */
  readonly format: string;
  /** -o of qemu-img create. */
  readonly create?: string;
  /** Images, 1 without a backing file. */
  readonly depth: number;
  /** The lowest image is compressed. */
  readonly compressed?: boolean;
  readonly size: number;
}

export interface Chain {
  /** The image on top. */
  readonly image: string;
  readonly model: ModelDisk;
}

/** Makes a chain of images in `folder` with qemu-img and qemu-io, every layer holding some of the content. */
export async function makeChain(folder: string, shape: ChainShape, random: Random): Promise<Chain> {
  const { format, create, depth, compressed = false, size } = shape;
  const options = create === undefined ? [] : ['-o', create];
  const model = new ModelDisk(size);
  fill(model, random);
  const flat = join(folder, 'base.raw');
  await writeFile(flat, model.bytes);
  if (format === 'raw') return { image: flat, model };
  let image = join(folder, `layer0.${format}`);
  const convert = ['convert', '-q', '-f', 'raw', '-O', format, ...(compressed ? ['-c'] : []), ...options];
  await run('qemu-img', [...convert, flat, image]);
  for (let layer = 1; layer < depth; layer += 1) {
    const name = `layer${layer}.${format}`;
    const below = `layer${layer - 1}.${format}`;
    await run('qemu-img', ['create', '-q', '-f', format, '-b', below, '-F', format, ...options, name], {
      cwd: folder,
    });
    image = join(folder, name);
    await run('qemu-io', ['-f', format, ...overwrite(model, random), image]);
  }
  return { image, model };
}

/** Runs of data, compressible data and zeroes. */
function fill(model: ModelDisk, random: Random): void {
  for (let at = 0; at < model.size;) {
    const length = Math.min(model.size - at, random.pick([512, 10_000, 65_536, 400_000]));
    const kind = random.below(3);
    if (kind === 1) model.write(random.bytes(length), at);
    if (kind === 2) model.write(random.softBytes(length), at);
    at += length;
  }
}

/** Some writes, zeroes and discards of one layer as commands of qemu-io, done to the model as well. */
function overwrite(model: ModelDisk, random: Random): string[] {
  const commands: string[] = [];
  for (let index = 0; index < 12; index += 1) {
    const offset = random.below(model.size - 1);
    const length = Math.min(model.size - offset, random.between(1, 200_000));
    if (random.chance(0.25)) {
      commands.push('-c', `write -z ${offset} ${length}`);
      model.zero(offset, length);
    } else {
      const value = random.between(1, 255);
      commands.push('-c', `write -P ${value} ${offset} ${length}`);
      model.bytes.fill(value, offset, offset + length);
    }
  }
  return commands;
}
