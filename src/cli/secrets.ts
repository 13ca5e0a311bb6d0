/**
 * Keys of encrypted images: from a file, a descriptor, a variable, `--object secret`, or asked for. What the first three
 * give has the id that options mean which name none. The bytes are taken as they are, a newline at the end included.
 */
import { DEFAULT_SECRET } from '../block/secrets.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import { expandDotted, takeAll } from '../block/options.ts';
import { integer, optional, text } from '../block/schema.ts';
import { readSecretFile } from '../sys/secret-file.ts';
import { repeated, UsageError } from './command.ts';
import type { Options, OptionValues } from './command.ts';
import { parseKeyValues } from './key-values.ts';
import { SECRET_TYPE } from './server/objects.ts';

export const SECRET_OPTIONS = {
  'key-file': {
    schema: optional(text('File that holds the key of an encrypted image, every byte of it counts')),
    value: 'file',
  },
  'key-fd': {
    schema: optional(integer('Descriptor to read that key from, to its end')),
    value: 'number',
  },
  'key-env': { schema: optional(text('Variable of the environment that holds that key')), value: 'name' },
  object: {
    schema: repeated(
      'A key under a name of its own: secret,id=ID,file=PATH; with data=TEXT in place of file, which everybody sees ' +
        'in the list of processes',
    ),
    value: 'options',
    repeat: true,
  },
} as const satisfies Options;

type Given = OptionValues<typeof SECRET_OPTIONS>;
/** Commands that build their values themselves may leave any of them out. */
export type SecretValues = { readonly [Name in keyof Given]?: Given[Name] | undefined };

export interface Secret {
  readonly id: string;
  readonly bytes: Buffer;
}

export function readSecrets(values: SecretValues): Secret[] {
  const named = (values.object ?? []).map(({ text: given }) => readObject(given));
  const key = readKey(values);
  return key === undefined ? named : [{ id: DEFAULT_SECRET, bytes: key }, ...named];
}

/** As a request for a server carries it. */
export function encoded({ id, bytes }: Secret): { id: string; data: string } {
  const data = bytes.toString('base64');
  bytes.fill(0);
  return { id, data };
}

/** Gives the graph what the user gave. */
export function addSecrets(graph: Graph, values: SecretValues): void {
  for (const { id, bytes } of readSecrets(values)) graph.secrets.add(id, bytes);
}

function readKey(values: SecretValues): Buffer | undefined {
  const { 'key-file': file, 'key-fd': fd, 'key-env': variable } = values;
  if ([file, fd, variable].filter((given) => given !== undefined).length > 1)
    throw new UsageError('only one of --key-file, --key-fd and --key-env can be given');
  if (file !== undefined) return readSecretFile(file);
  if (fd !== undefined) return readSecretFile(fd);
  if (variable === undefined) return undefined;
  const value = process.env[variable];
  if (value === undefined) throw new UsageError(`--key-env names "${variable}", which is not set`);
  // A server that this process starts must not have it in its environment.
  delete process.env[variable];
  return Buffer.from(value);
}

function readObject(given: string): Secret {
  const { secret, 'qom-type': type, id, ...rest } = parseKeyValues(given);
  if (secret !== 'on' && type !== 'secret')
    throw new UsageError('--object takes a secret here: secret,id=ID,file=PATH');
  if (id === undefined) throw new UsageError('--object secret needs an id');
  const options = takeAll(expandDotted(rest), SECRET_TYPE.options, `secret "${id}"`);
  return { id, bytes: SECRET_TYPE.create(id, options).secret ?? Buffer.alloc(0) };
}

/** Asks at the terminal, without an echo; twice for the key of a new image. Rejects where there is none. */
export async function askSecret(subject: string, isNew = false): Promise<Buffer> {
  const refuse = (why: string): never => {
    throw new BlockError('ENOKEY', `Cannot unlock "${subject}": ${why}`);
  };
  if (!process.stdin.isTTY)
    return refuse('it is encrypted, give its key with --key-file, --key-fd or --key-env');
  const key = (await askOnce(`${isNew ? 'New key' : 'Key'} for "${subject}"`)) ?? refuse('no key was given');
  if (!isNew) return key;
  const again = await askOnce('The same again');
  const same = again?.equals(key) === true;
  again?.fill(0);
  if (same) return key;
  key.fill(0);
  return refuse('the two keys are not the same');
}

async function askOnce(prompt: string): Promise<Buffer | undefined> {
  process.stderr.write(`${prompt}: `);
  const typed = await readHidden();
  process.stderr.write('\n');
  return typed;
}

const ENTER = [10, 13];
const ERASE = [8, 127];
/** ^C and ^D. */
const GIVE_UP = [3, 4];

/** One line of the terminal; undefined when the user gives up. */
async function readHidden(): Promise<Buffer | undefined> {
  const { stdin } = process;
  const typed: number[] = [];
  stdin.setRawMode(true);
  stdin.resume();
  try {
    return await new Promise((resolve) => {
      stdin.on('data', (chunk: Buffer) => {
        for (const [index, byte] of chunk.entries()) {
          if (ENTER.includes(byte)) {
            // What was typed ahead answers the next question.
            stdin.pause();
            stdin.unshift(Buffer.from(chunk.subarray(index + 1)));
            resolve(Buffer.from(typed));
            break;
          }
          if (GIVE_UP.includes(byte)) resolve(undefined);
          else if (!ERASE.includes(byte)) typed.push(byte);
          // The bytes that continue a character of UTF-8 go with the one that begins it.
          else while (((typed.pop() ?? 0) & 0xc0) === 0x80);
        }
        chunk.fill(0);
      });
      stdin.on('end', () => {
        resolve(undefined);
      });
    });
  } finally {
    typed.fill(0);
    stdin.removeAllListeners('data').removeAllListeners('end');
    stdin.setRawMode(false);
    stdin.pause();
  }
}
