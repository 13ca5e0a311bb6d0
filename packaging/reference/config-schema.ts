/** JSON Schema of the files that `blockfuse serve --config` takes, for editors; made from the same declarations. */
import { toJsonSchema } from '@valibot/to-json-schema';
import type * as v from 'valibot';
import { DRIVERS } from '../../drivers/index.ts';
import type { Driver } from '../../src/block/driver.ts';
import { COMMON_OPTIONS } from '../../src/block/schema.ts';
import type { OptionEntries } from '../../src/block/schema.ts';
import { isOptional, kindOf } from '../../src/block/schema-kind.ts';
import { describeSchema } from '../../src/cli/describe-schema.ts';
import { BLOCKDEV_OPTIONS, KINDS } from '../../src/cli/serve/step-options.ts';
import { SERVER_OBJECT_TYPES } from '../../src/cli/server/objects.ts';

type Json = Readonly<Record<string, unknown>>;

export const SCHEMA_FILE = 'packaging/blockfuse.schema.json';

/** The file's text. */
export function configSchemaText(): string {
  return `${JSON.stringify(configSchema(), undefined, 1)}\n`;
}

function configSchema(): Json {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'blockfuse serve --config',
    type: 'object',
    properties: {
      $schema: { type: 'string' },
      'add-fd': list(object(KINDS['add-fd'].entries), 'Descriptors that the process was started with'),
      object: list({ anyOf: SERVER_OBJECT_TYPES.map(objectType) }, 'Throttle groups, secrets'),
      chardev: list(object(KINDS.chardev.entries), 'Connections'),
      blockdev: list({ $ref: '#/$defs/node' }, 'Nodes'),
      export: list(object(KINDS.export.entries), 'What is shown where'),
      monitor: list(object(KINDS.monitor.entries), 'Connections that speak QMP'),
    },
    additionalProperties: false,
    $defs: {
      node: { anyOf: DRIVERS.map(({ name }) => ({ $ref: `#/$defs/${name}` })) },
      child: { anyOf: [{ type: 'string', description: 'Name of a node' }, { $ref: '#/$defs/node' }] },
      common: COMMON,
      ...Object.fromEntries(DRIVERS.map((driver) => [driver.name, driverNode(driver)])),
    },
  };
}

const { driver: _driver, ...commonOptions } = COMMON_OPTIONS;
/** Of every node, by the name at the top: `cache` holds two. */
const COMMON = nested(properties({ ...commonOptions, snapshot: BLOCKDEV_OPTIONS.snapshot }));

/** Options may be written dotted (`file.filename`) or nested, so any dotted name is let through. */
function driverNode(driver: Driver): Json {
  const children = Object.entries(driver.children).map(([name, { summary }]) => childProperty(name, summary));
  const required = ['driver', ...requiredNames(driver.options).filter((name) => !name.includes('.'))];
  return {
    type: 'object',
    description: driver.summary,
    properties: {
      driver: { const: driver.name },
      ...Object.fromEntries(Object.keys(COMMON).map((name) => [name, { $ref: `#/$defs/common/${name}` }])),
      ...nested(properties(driver.options)),
      ...Object.fromEntries(children),
    },
    patternProperties: { '^[a-z0-9-]+\\.': true },
    required,
    additionalProperties: false,
  };
}

function childProperty(name: string, description: string): [string, Json] {
  if (name.endsWith('.*'))
    return [name.slice(0, -2), { type: 'array', items: { $ref: '#/$defs/child' }, description }];
  return [name, { anyOf: [{ $ref: '#/$defs/child' }, { type: 'null' }], description }];
}

function objectType(type: { name: string; summary: string; options: OptionEntries }): Json {
  return {
    ...object({ id: KINDS.object.entries.id, ...type.options }),
    description: type.summary,
    properties: {
      'qom-type': { const: type.name },
      id: property(KINDS.object.entries.id),
      ...nested(properties(type.options)),
    },
    patternProperties: { '^[a-z0-9-]+\\.': true },
    required: ['qom-type', 'id'],
  };
}

function object(entries: OptionEntries): Json {
  return {
    type: 'object',
    properties: properties(entries),
    required: requiredNames(entries),
    additionalProperties: false,
  };
}

/** `cache.direct` becomes `cache: {direct}`. */
function nested(given: Readonly<Record<string, Json>>): Record<string, unknown> {
  const tree: Record<string, unknown> = {};
  const groups: Record<string, Record<string, Json>> = {};
  for (const [name, schema] of Object.entries(given)) {
    const dot = name.indexOf('.');
    if (dot < 0) tree[name] = schema;
    else (groups[name.slice(0, dot)] ??= {})[name.slice(dot + 1)] = schema;
  }
  for (const [name, members] of Object.entries(groups))
    tree[name] ??= { type: 'object', properties: nested(members) };
  return tree;
}

function properties(entries: OptionEntries): Record<string, Json> {
  return Object.fromEntries(Object.entries(entries).map(([name, schema]) => [name, property(schema)]));
}

function property(schema: v.GenericSchema): Json {
  const { $schema: _schema, ...converted } = toJsonSchema(schema, { typeMode: 'input', errorMode: 'ignore' });
  const kind = kindOf(schema);
  const type = kind.kind === 'int' ? { type: ['integer', 'string'] } : converted;
  return { ...type, description: describeSchema(schema) };
}

function requiredNames(entries: OptionEntries): string[] {
  return Object.keys(entries).filter((name) => {
    const schema = entries[name];
    return schema !== undefined && !isOptional(schema);
  });
}

const list = (items: Json, description: string): Json => ({ type: 'array', items, description });
