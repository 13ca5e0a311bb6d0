import * as v from 'valibot';

/** The description of an option, also where the schema is wrapped as optional; '' when it has none. */
export function describeSchema(schema: v.GenericSchema): string {
  const own = v.getDescription(schema);
  if (own !== undefined) return own;
  return 'wrapped' in schema ? describeSchema(schema.wrapped as v.GenericSchema) : '';
}
