/** Types of objects that need files, or that are there for those who bring options from elsewhere. */
import { OBJECT_TYPES } from '../../block/object-types.ts';
import { BlockError } from '../../block/errors.ts';
import type { GraphObject, ObjectType } from '../../block/objects.ts';
import { choice, integer, optional, text } from '../../block/schema.ts';
import { readSecretFile } from '../../sys/secret-file.ts';

const SECRET_OPTIONS = {
  data: optional(text('The passphrase or key itself: others may see it in the list of processes')),
  file: optional(text('File that holds it')),
  format: optional(choice(['raw', 'base64'], 'How it is given'), 'raw'),
} as const;

export const SECRET_TYPE: ObjectType = {
  name: 'secret',
  summary: 'A passphrase or key for encrypted images',
  options: SECRET_OPTIONS,
  create(id, { data, file, format }) {
    if ((typeof data === 'string') === (typeof file === 'string')) {
      throw new BlockError('EINVAL', `Cannot make secret "${id}": it needs either data or file`);
    }
    const given = typeof file === 'string' ? readSecretFile(file) : Buffer.from(String(data));
    const secret = format === 'base64' ? Buffer.from(given.toString('latin1'), 'base64') : given;
    return { ...plainObject('secret', id, { format }), secret };
  },
};

const iothreadType: ObjectType = {
  name: 'iothread',
  summary: 'Taken and not used: there is one thread',
  options: {
    'poll-max-ns': optional(integer('Not used')),
    'poll-grow': optional(integer('Not used')),
    'poll-shrink': optional(integer('Not used')),
    'aio-max-batch': optional(integer('Not used')),
  },
  create: (id) => plainObject('iothread', id, {}),
};

export const SERVER_OBJECT_TYPES: readonly ObjectType[] = [...OBJECT_TYPES, SECRET_TYPE, iothreadType];

function plainObject(type: string, id: string, properties: Readonly<Record<string, unknown>>): GraphObject {
  return {
    type,
    id,
    user: () => undefined,
    properties: () => properties,
    setProperty(name) {
      throw new BlockError('EINVAL', `Cannot set "${name}" of ${type} "${id}": it can't be changed`);
    },
  };
}
