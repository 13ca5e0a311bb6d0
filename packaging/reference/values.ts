/** What an option's schema says beyond its description: which values it takes, and which it has when left out. */
import type * as v from 'valibot';

/** Words to choose from; undefined when anything of `valueType` will do. */
export function choicesOf(schema: v.GenericSchema): readonly string[] | undefined {
  const inner = unwrap(schema);
  if (inner.type !== 'picklist' || !('options' in inner) || !Array.isArray(inner.options)) return undefined;
  return inner.options.map(String);
}

/** `on|off`, `size`, `number`, `list`, `text`, or the words themselves. */
export function valueType(schema: v.GenericSchema): string {
  const choices = choicesOf(schema);
  if (choices !== undefined) return choices.join('|');
  const inner = unwrap(schema);
  const steps = stepsOf(inner);
  if (steps.includes('array')) return 'list';
  if (steps.includes('integer')) return 'number';
  if (steps.includes('raw_transform')) return 'size';
  return inner.type === 'union' ? 'on|off' : 'text';
}

/** Undefined when there is none that could be written down. */
export function defaultOf(schema: v.GenericSchema): string | undefined {
  const fallback: unknown = 'default' in schema ? schema.default : undefined;
  if (typeof fallback === 'boolean') return fallback ? 'on' : 'off';
  return typeof fallback === 'string' || typeof fallback === 'number' ? String(fallback) : undefined;
}

export function isRequired(schema: v.GenericSchema): boolean {
  return schema.type !== 'optional';
}

function unwrap(schema: v.GenericSchema): v.GenericSchema {
  return 'wrapped' in schema ? unwrap(schema.wrapped as v.GenericSchema) : schema;
}

function stepsOf(schema: v.GenericSchema): readonly string[] {
  const steps = 'pipe' in schema ? (schema.pipe as readonly { readonly type: string }[]) : [];
  return steps.map(({ type }) => type);
}
