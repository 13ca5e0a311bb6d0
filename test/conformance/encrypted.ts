import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { qemuImgWithNewKey } from '../helpers/qemu-key.ts';
import { run } from '../helpers/run.ts';
import type { Subject } from './subject.ts';

const KEY = 'correct horse';
const SECRET = ['--object', `secret,id=key,data=${KEY}`];

interface Encrypted {
  readonly name: string;
  readonly format: string;
  readonly create: string;
  readonly option: string;
  readonly check?: boolean;
  readonly can?: Subject['can'];
}

/** Made and judged by qemu-img, which has the same key. */
function encrypted({ name, format, create, option, check = false, can = {} }: Encrypted): Subject {
  const shown = (path: string): string =>
    `driver=${format},${option}=key,file.driver=file,file.filename=${path}`;
  return {
    name,
    driver: format,
    tools: ['qemu-img'],
    can,
    async make(folder, content) {
      const path = join(folder, `disk.${format}`);
      const flat = join(folder, 'content.raw');
      await writeFile(flat, content);
      const options = ['-o', `${create}${option}=key`];
      await qemuImgWithNewKey([
        ...['convert', '-q', ...SECRET, '-f', 'raw', '-O', format],
        ...options,
        flat,
        path,
      ]);
      return {
        path,
        options: { driver: format, [option]: 'key', file: { driver: 'file', filename: path } },
        prepare: (graph) => {
          graph.secrets.add('key', Buffer.from(KEY));
        },
      };
    },
    async judge({ path = '' }, content) {
      const wanted = `${path}.wanted`;
      await writeFile(wanted, content);
      if (check) await run('qemu-img', ['check', ...SECRET, '--image-opts', shown(path)]);
      const raw = `driver=raw,file.driver=file,file.filename=${wanted}`;
      await run('qemu-img', ['compare', ...SECRET, '--image-opts', raw, shown(path)]);
    },
  };
}

const option = 'encrypt.key-secret';
/** A locked image is known as what it is, and not opened without its key. */
const locked = { probe: false };

export const ENCRYPTED: readonly Subject[] = [
  encrypted({
    name: 'qcow2 encrypted by LUKS',
    format: 'qcow2',
    create: 'encrypt.format=luks,encrypt.iter-time=10,',
    option,
    check: true,
    can: { ...locked, grow: true, shrink: true },
  }),
  encrypted({
    name: 'qcow2 encrypted by AES',
    format: 'qcow2',
    create: 'encrypt.format=aes,',
    option,
    check: true,
    can: { ...locked, grow: true, shrink: true },
  }),
  encrypted({
    name: 'qcow encrypted by AES',
    format: 'qcow',
    create: 'encrypt.format=aes,',
    option,
    can: { ...locked, grow: true },
  }),
  encrypted({
    name: 'luks',
    format: 'luks',
    create: 'iter-time=10,',
    option: 'key-secret',
    can: { ...locked, grow: true, shrink: true },
  }),
];
