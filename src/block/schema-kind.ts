/** What a schema takes, in the few words that introspection, JSON Schema and messages need. */
import * as v from 'valibot';
import type { OptionEntries } from './schema.ts';

export type SchemaKind =
  | { readonly kind: 'bool' | 'int' | 'str' | 'null' | 'any' }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  | { readonly kind: 'list'; readonly item: v.GenericSchema }
  | { readonly kind: 'object'; readonly entries: OptionEntries }
  | { readonly kind: 'union'; readonly options: readonly v.GenericSchema[] };

export function isOptional(schema: v.GenericSchema): boolean {
  return schema.type === 'optional';
}

/** The default of an option that may be left out; undefined when it has none. */
export function defaultOf(schema: v.GenericSchema): unknown {
  return 'default' in schema && typeof schema.default !== 'function' ? schema.default : undefined;
}

export function kindOf(given: v.GenericSchema): SchemaKind {
  const schema = unwrapped(given);
  const { kind, item } = v.getMetadata(schema as Parameters<typeof v.getMetadata>[0]);
  if (kind === 'bool' || kind === 'int') return { kind };
  if (kind === 'list') return { kind, item: item as v.GenericSchema };
  switch (schema.type) {
    case 'string':
      return { kind: 'str' };
    case 'boolean':
      return { kind: 'bool' };
    case 'number':
      return { kind: 'int' };
    case 'null':
      return { kind: 'null' };
    case 'picklist':
      return { kind: 'enum', values: (schema as unknown as { options: readonly string[] }).options };
    case 'array':
      return { kind: 'list', item: (schema as unknown as { item: v.GenericSchema }).item };
    case 'strict_object':
    case 'object':
    case 'loose_object':
      return { kind: 'object', entries: (schema as unknown as { entries: OptionEntries }).entries };
    case 'union':
      return {
        kind: 'union',
        options: (schema as unknown as { options: readonly v.GenericSchema[] }).options,
      };
    default:
      return { kind: 'any' };
  }
}

function unwrapped(schema: v.GenericSchema): v.GenericSchema {
  return 'wrapped' in schema ? unwrapped(schema.wrapped as v.GenericSchema) : schema;
}
